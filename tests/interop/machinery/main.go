// A Machinery worker and producer in a process of its own, for the tests in tests/interop: the real library, unchanged.
//
//	machinery worker QUEUE CONCURRENCY NAME...  works these functions until its input ends or it is killed
//	machinery send QUEUE                        sends the tasks on its input, prints their ids, a line each
//	machinery group|chord|chain QUEUE           sends workflows, prints the ids of each as a JSON list a line
//	machinery chord-result|chain-result         waits for the workflows whose ids are on its input, as JSON lists; prints likewise
//	machinery result ID...                      waits for the results, prints one JSON object a line
//	machinery pending QUEUE                     prints what GetPendingTasks lists, an id a line
//	machinery delayed                           prints what GetDelayedTasks lists, an id a line
//
// BROKER is the URL of broker and result backend, RESULTS_EXPIRE_IN how many seconds states are kept, WITNESS a file to which a
// worker appends each start and end, STOPPED one that it makes when it has flagged a chord and stops there.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/RichardKnop/machinery/v1"
	"github.com/RichardKnop/machinery/v1/backends/result"
	"github.com/RichardKnop/machinery/v1/config"
	"github.com/RichardKnop/machinery/v1/log"
	"github.com/RichardKnop/machinery/v1/tasks"
)

// How long a result is waited for, and how often it is looked for.
const (
	resultMax  = 30 * time.Second
	resultPoll = 5 * time.Millisecond
)

// Only errors are worth reading when a test fails.
type quiet struct{}

func (quiet) Print(...interface{})          {}
func (quiet) Printf(string, ...interface{}) {}
func (quiet) Println(...interface{})        {}
func (quiet) Fatal(...interface{})          { os.Exit(1) }
func (quiet) Fatalf(string, ...interface{}) { os.Exit(1) }
func (quiet) Fatalln(...interface{})        { os.Exit(1) }
func (quiet) Panic(...interface{})          { panic("machinery") }
func (quiet) Panicf(string, ...interface{}) { panic("machinery") }
func (quiet) Panicln(...interface{})        { panic("machinery") }

func main() {
	log.DEBUG, log.INFO = quiet{}, quiet{}
	args := os.Args[1:]
	switch {
	case len(args) > 3 && args[0] == "worker":
		work(args[1], args[2], args[3:])
	case len(args) == 2 && args[0] == "send":
		send(args[1])
	case len(args) == 2 && (args[0] == "group" || args[0] == "chord" || args[0] == "chain"):
		together(args[0], args[1])
	case len(args) == 1 && (args[0] == "chord-result" || args[0] == "chain-result"):
		awaited(strings.TrimSuffix(args[0], "-result"))
	case len(args) > 1 && args[0] == "result":
		results(args[1:])
	case len(args) == 2 && args[0] == "pending":
		found, err := server("none").GetBroker().GetPendingTasks(args[1])
		list(found, err)
	case len(args) == 1 && args[0] == "delayed":
		found, err := server("none").GetBroker().GetDelayedTasks()
		list(found, err)
	default:
		must(fmt.Errorf("usage: worker QUEUE CONCURRENCY NAME... | send QUEUE | group QUEUE | chord QUEUE | chain QUEUE | result ID... | chord-result | chain-result | pending QUEUE | delayed"))
	}
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// As a user configures it: the defaults of a loaded file.
func server(queue string) *machinery.Server {
	url := os.Getenv("BROKER")
	expire := 3600
	if set := os.Getenv("RESULTS_EXPIRE_IN"); set != "" {
		number, err := strconv.Atoi(set)
		must(err)
		expire = number
	}
	s, err := machinery.NewServer(&config.Config{
		Broker:          url,
		ResultBackend:   url,
		DefaultQueue:    queue,
		ResultsExpireIn: expire,
		NoUnixSignals:   true,
		Redis: &config.RedisConfig{
			MaxIdle: 3, IdleTimeout: 240, ReadTimeout: 15, WriteTimeout: 15, ConnectTimeout: 15,
			NormalTasksPollPeriod: 1000, DelayedTasksPollPeriod: 500,
		},
	})
	must(err)
	return s
}

func work(queue, concurrency string, names []string) {
	number, err := strconv.Atoi(concurrency)
	must(err)
	s := server(queue)
	if path := os.Getenv("STOPPED"); path != "" {
		s.SetBackend(stopping{s.GetBackend(), path})
	}
	for _, name := range names {
		function, ok := functions[name]
		if !ok {
			must(fmt.Errorf("there is no function %q", name))
		}
		must(s.RegisterTask(name, function))
	}
	w := s.NewWorker("interop", number)
	// A worker whose consumer restarts says so; it goes on.
	w.SetErrorHandler(func(err error) { fmt.Fprintln(os.Stderr, "worker:", err) })
	witness(w)
	errs := make(chan error, 1)
	w.LaunchAsync(errs)
	fmt.Println("working")
	go func() {
		// Ends with the test that holds the other end, however that ends.
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	must(<-errs)
}

// send reads tasks as the library writes them; values become what their labels say, so that they are encoded from Go's own types.
func send(queue string) {
	decoder := json.NewDecoder(os.Stdin)
	decoder.UseNumber()
	var sent []*tasks.Signature
	must(decoder.Decode(&sent))
	s := server(queue)
	read(sent)
	for _, signature := range sent {
		answer, err := s.SendTask(signature)
		must(err)
		fmt.Println(answer.Signature.UUID)
	}
}

// value is a result as the library gave it out.
type value struct {
	Type  string
	Value interface{}
}

// end is how a task ended, for the test to read.
type end struct {
	State, Name, Error string
	Results            []value
}

func (e *end) read(values []reflect.Value, err error) {
	if err != nil {
		e.Error = err.Error()
	}
	for _, v := range values {
		e.Results = append(e.Results, value{v.Type().String(), v.Interface()})
	}
}

func results(ids []string) {
	backend := server("none").GetBackend()
	for _, id := range ids {
		waited := result.NewAsyncResult(&tasks.Signature{UUID: id}, backend)
		values, err := waited.GetWithTimeout(resultMax, resultPoll)
		told := end{Results: []value{}}
		told.read(values, err)
		state := waited.GetState()
		told.State, told.Name = state.State, state.TaskName
		must(json.NewEncoder(os.Stdout).Encode(told))
	}
}

func list(found []*tasks.Signature, err error) {
	must(err)
	for _, signature := range found {
		fmt.Println(signature.UUID)
	}
}
