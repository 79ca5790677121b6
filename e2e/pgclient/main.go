// Command pgclient queries a PostgreSQL database all the time, by pools of
// connections that log in with secrets of secretsd, and writes down how that
// goes. Its pool, in pool.go, is the example in README.md.
//
//	pgclient DATABASE_URL AGENT TOKEN_FILE REPORT WORKERS PAUSE SECRET...
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "pgclient:", err)
		os.Exit(1)
	}
}

// event is a line of the report.
type event struct {
	// Secret and Worker say whose connection it is.
	Secret string
	Worker int
	// What is login, refused, query or failed.
	What string
	// User and Rotation are what it logs in with: a test's passwords begin with
	// the number of the rotation that made them.
	User     string `json:",omitempty"`
	Rotation int    `json:",omitempty"`
	Error    string `json:",omitempty"`
	At       time.Time
}

// report writes lines from several goroutines.
type report struct {
	mu  sync.Mutex
	out *json.Encoder
}

func (r *report) say(e event) {
	e.At = time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.out.Encode(e); err != nil {
		panic(err)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) < 7 {
		return errors.New("an argument is missing; the comment above lists them")
	}
	file, err := os.OpenFile(args[3], os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	workers, err := strconv.Atoi(args[4])
	if err != nil {
		return err
	}
	pause, err := time.ParseDuration(args[5])
	if err != nil {
		return err
	}
	log := &report{out: json.NewEncoder(file)}
	var wg sync.WaitGroup
	for _, secret := range args[6:] {
		cfg, err := pgxpool.ParseConfig(args[0])
		if err != nil {
			return err
		}
		cfg.MaxConns = int32(workers) //nolint:gosec // a handful
		cfg.ConnConfig.Tracer = &tracer{secret: secret, log: log}
		pool := &Pool{Agent: args[1], TokenFile: args[2], Secret: secret}
		if err := pool.Open(ctx, cfg); err != nil {
			return err
		}
		for n := range workers {
			w := &worker{pool: pool, log: log, n: n, uses: 1 + 2*(n%2)}
			wg.Go(func() { w.work(context.WithValue(ctx, workerKey{}, n), pause) })
		}
	}
	wg.Wait()
	return nil
}

// worker uses one connection after another.
type worker struct {
	pool *Pool
	log  *report
	n    int
	// uses is how many queries a connection is for. After the first it is older
	// than the password that is current then.
	uses int
}

func (w *worker) work(ctx context.Context, pause time.Duration) {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		if err := w.use(ctx, tick.C); err != nil {
			w.log.say(event{Secret: w.pool.Secret, Worker: w.n, What: "failed", Error: err.Error()})
		}
	}
}

// use makes queries on one connection.
func (w *worker) use(ctx context.Context, tick <-chan time.Time) error {
	<-tick
	conn, err := w.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	defer conn.Conn().Close(ctx)
	for i := range w.uses {
		if i > 0 {
			<-tick
		}
		var n int
		if err := conn.QueryRow(ctx, "SELECT n FROM answer").Scan(&n); err != nil {
			return err
		}
		w.log.say(event{Secret: w.pool.Secret, Worker: w.n, What: "query"})
	}
	return nil
}

// workerKey is the key of a worker's number in a context.
type workerKey struct{}

// tracer writes down every login, whoever caused it.
type tracer struct {
	secret string
	log    *report
}

// TraceConnectStart implements [pgx.ConnectTracer].
func (t *tracer) TraceConnectStart(ctx context.Context, data pgx.TraceConnectStartData) context.Context {
	return context.WithValue(ctx, tracer{}, data.ConnConfig)
}

// TraceConnectEnd implements [pgx.ConnectTracer].
func (t *tracer) TraceConnectEnd(ctx context.Context, data pgx.TraceConnectEndData) {
	e := event{Secret: t.secret, Worker: -1, What: "login"}
	if n, ok := ctx.Value(workerKey{}).(int); ok {
		e.Worker = n
	}
	if cfg, ok := ctx.Value(tracer{}).(*pgx.ConnConfig); ok {
		number, _, _ := strings.Cut(cfg.Password, ".")
		e.User = cfg.User
		e.Rotation, _ = strconv.Atoi(number)
	}
	var refused *pgconn.PgError
	switch {
	case errors.As(data.Err, &refused) && refused.Code == invalidPassword:
		e.What = "refused"
	case data.Err != nil:
		return // the query that it was for says so
	}
	t.log.say(e)
}

// TraceQueryStart implements [pgx.QueryTracer], without which there is no tracer.
func (t *tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

// TraceQueryEnd implements [pgx.QueryTracer].
func (t *tracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
