// A Machinery worker and producer in a process of its own, for the tests in tests/interop: the real library, unchanged.
//
//	machinery worker QUEUE CONCURRENCY NAME...  works these functions until its input ends or it is killed
//	machinery send QUEUE                        sends the tasks on its input, prints their ids, a line each
//	machinery result ID...                      waits for the results, prints one JSON object a line
//	machinery pending QUEUE                     prints what GetPendingTasks lists, an id a line
//	machinery delayed                           prints what GetDelayedTasks lists, an id a line
//
// BROKER is the URL of broker and result backend, WITNESS a file to which a worker appends each start and end.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
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
	case len(args) > 1 && args[0] == "result":
		results(args[1:])
	case len(args) == 2 && args[0] == "pending":
		found, err := server("none").GetBroker().GetPendingTasks(args[1])
		list(found, err)
	case len(args) == 1 && args[0] == "delayed":
		found, err := server("none").GetBroker().GetDelayedTasks()
		list(found, err)
	default:
		must(fmt.Errorf("usage: worker QUEUE CONCURRENCY NAME... | send QUEUE | result ID... | pending QUEUE | delayed"))
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
	s, err := machinery.NewServer(&config.Config{
		Broker:          url,
		ResultBackend:   url,
		DefaultQueue:    queue,
		ResultsExpireIn: 3600,
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
	for _, signature := range sent {
		for i, arg := range signature.Args {
			value, err := tasks.ReflectValue(arg.Type, arg.Value)
			must(err)
			signature.Args[i].Value = value.Interface()
		}
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

func results(ids []string) {
	backend := server("none").GetBackend()
	for _, id := range ids {
		waited := result.NewAsyncResult(&tasks.Signature{UUID: id}, backend)
		values, err := waited.GetWithTimeout(resultMax, resultPoll)
		told := struct {
			State, Name, Error string
			Results            []value
		}{Results: []value{}}
		if err != nil {
			told.Error = err.Error()
		}
		for _, v := range values {
			told.Results = append(told.Results, value{v.Type().String(), v.Interface()})
		}
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
