package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"time"

	"github.com/RichardKnop/machinery/v1/backends/iface"
	"github.com/RichardKnop/machinery/v1/backends/result"
	"github.com/RichardKnop/machinery/v1/tasks"
)

// How often it is asked whether a file is there.
const filePoll = 5 * time.Millisecond

// Members and links of workflows that both sides work. The names that end in `_go` are known to workers of this side only.
func init() {
	functions["add_go"], functions["either"] = functions["add"], functions["add"]
	// Ends once the file is there.
	functions["held_go"] = func(path string, n int64) (int64, error) {
		await(path)
		return n, nil
	}
	functions["fails_go"] = func(path, text string) (int64, error) {
		await(path)
		return 0, errors.New(text)
	}
	// What it was given, in its order.
	functions["list"] = func(numbers ...int64) ([]int64, error) { return numbers, nil }
	functions["text"] = func(text string, n int64) (string, error) { return fmt.Sprintf("%s/%d", text, n), nil }
}

func await(path string) {
	for {
		if _, err := os.Stat(path); err == nil {
			return
		}
		time.Sleep(filePoll)
	}
}

// read gives the values of arguments the Go types that their labels say.
func read(signatures []*tasks.Signature) {
	for _, signature := range signatures {
		for i, arg := range signature.Args {
			value, err := tasks.ReflectValue(arg.Type, arg.Value)
			must(err)
			signature.Args[i].Value = value.Interface()
		}
		read(signature.OnSuccess)
		read(signature.OnError)
	}
}

// together sends the tasks on the input as one, and prints the id of the group, if there is one, those of the tasks, and that of the
// callback.
func together(kind, queue string) {
	decoder := json.NewDecoder(os.Stdin)
	decoder.UseNumber()
	var input []struct {
		Tasks    []*tasks.Signature
		Callback *tasks.Signature
	}
	must(decoder.Decode(&input))
	s := server(queue)
	for _, sent := range input {
		read(sent.Tasks)
		ids := []string{}
		if kind == "chain" {
			chain, err := tasks.NewChain(sent.Tasks...)
			must(err)
			_, err = s.SendChain(chain)
			must(err)
		} else {
			group, err := tasks.NewGroup(sent.Tasks...)
			must(err)
			ids = append(ids, group.GroupUUID)
			if kind == "chord" {
				read([]*tasks.Signature{sent.Callback})
				chord, err := tasks.NewChord(group, sent.Callback)
				must(err)
				_, err = s.SendChord(chord, 1)
				must(err)
			} else {
				_, err = s.SendGroup(group, 1)
				must(err)
			}
		}
		for _, signature := range sent.Tasks {
			ids = append(ids, signature.UUID)
		}
		if sent.Callback != nil {
			ids = append(ids, sent.Callback.UUID)
		}
		must(json.NewEncoder(os.Stdout).Encode(ids))
	}
}

// awaited waits for workflows as the library does, and prints what each came to: of a chord the last id is the callback's.
func awaited(kind string) {
	var input [][]string
	must(json.NewDecoder(os.Stdin).Decode(&input))
	backend := server("none").GetBackend()
	for _, ids := range input {
		signatures := []*tasks.Signature{}
		for _, id := range ids {
			signatures = append(signatures, &tasks.Signature{UUID: id})
		}
		told := end{Results: []value{}}
		var values []reflect.Value
		var err error
		if last := len(signatures) - 1; kind == "chord" {
			values, err = result.NewChordAsyncResult(signatures[:last], signatures[last], backend).Get(resultPoll)
		} else {
			values, err = result.NewChainAsyncResult(signatures, backend).Get(resultPoll)
		}
		told.read(values, err)
		must(json.NewEncoder(os.Stdout).Encode(told))
	}
}

// stopping is the real backend, in a process that stops for ever once it has set the flag of a chord: it is to be killed there.
type stopping struct {
	iface.Backend
	path string
}

func (b stopping) TriggerChord(group string) (bool, error) {
	if done, err := b.Backend.TriggerChord(group); err != nil || !done {
		return done, err
	}
	must(os.WriteFile(b.path, nil, 0o644))
	select {}
}
