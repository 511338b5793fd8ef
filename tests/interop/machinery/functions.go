package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/RichardKnop/machinery/v1"
	"github.com/RichardKnop/machinery/v1/tasks"
)

// What a worker may register. The first seven are those of Machinery's own integration tests.
var functions = map[string]interface{}{
	"add": func(numbers ...int64) (int64, error) {
		sum := int64(0)
		for _, n := range numbers {
			sum += n
		}
		return sum, nil
	},
	"multiply": func(numbers ...int64) (int64, error) {
		product := int64(1)
		for _, n := range numbers {
			product *= n
		}
		return product, nil
	},
	"sum": func(numbers []int64) (int64, error) {
		sum := int64(0)
		for _, n := range numbers {
			sum += n
		}
		return sum, nil
	},
	"return_just_error": func(text string, fails bool) error {
		if fails {
			return errors.New(text)
		}
		return nil
	},
	"return_multiple_values": func(first, second string, fails bool) (string, string, error) {
		if fails {
			return "", "", errors.New("some error")
		}
		return first, second, nil
	},
	"panic":      func() (string, error) { panic(errors.New("oops")) },
	"delay_test": func() (int64, error) { return time.Now().UTC().UnixNano(), nil },

	// Takes one of each type and gives it back.
	"every_type": everyType,
	// Fails here and may succeed elsewhere.
	"fail_here": func() (string, error) { return "", errors.New("failed in Go") },
	// Succeeds here and may fail elsewhere.
	"succeed_here": func() (string, error) { return "done in Go", nil },
	// Wants to be tried again after so many milliseconds, once: then its second argument says that it may end.
	"try_later": func(ctx context.Context, millis int64) (string, error) {
		signature := tasks.SignatureFromContext(ctx)
		if signature.ETA == nil {
			return "", tasks.NewErrRetryTaskLater("not yet", time.Duration(millis)*time.Millisecond)
		}
		return "at last", nil
	},
	// As `work`, of which only Go's workers know, and `hold`, which ends with its process.
	"go_work": func(n int64) (int64, error) { return n, nil },
	"hold":    func() (string, error) { select {} },
}

func everyType(
	a bool, b int, c int8, d int16, e int32, f int64, g uint, h uint8, i uint16, j uint32, k uint64, l float32, m float64,
	n string, o []bool, p []int, q []int8, r []int16, s []int32, t []int64, u []uint, v []uint8, w []uint16, x []uint32,
	y []uint64, z []float32, za []float64, zb []string, zc []byte,
) (
	bool, int, int8, int16, int32, int64, uint, uint8, uint16, uint32, uint64, float32, float64, string, []bool, []int,
	[]int8, []int16, []int32, []int64, []uint, []uint8, []uint16, []uint32, []uint64, []float32, []float64, []string,
	[]byte, error,
) {
	return a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z, za, zb, zc, nil
}

// witness appends a line for each start and end: EVENT NAME TASK. One write to a file opened for appending, so that a kill
// tears none.
func witness(w *machinery.Worker) {
	path := os.Getenv("WITNESS")
	if path == "" {
		return
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	must(err)
	line := func(event string) func(*tasks.Signature) {
		return func(signature *tasks.Signature) {
			_, err := fmt.Fprintf(file, "%s %s %s\n", event, signature.Name, signature.UUID)
			must(err)
		}
	}
	w.SetPreTaskHandler(line("start"))
	w.SetPostTaskHandler(line("end"))
}
