// Command latency measures how long an event takes until it can be queried in
// the scored table, with everything on one machine: the product binary with its
// embedded servers, a client that sends small requests, and this process, which
// looks at the table from outside.
//
// The load is open-loop. Every request has a time at which it is to be sent,
// fixed before the run begins, and its rows carry that time as their event time:
// when the product or this client falls behind, the rows are late and it shows.
// A row counts as queryable when a reader of the table's log first sees the
// commit that holds it; the clock is this process's, polling every 5 ms.
//
//	go tool task bench:latency
//	go run ./test/bench/latency -rate 20000 -for 30s
//	go run ./test/bench/latency -kafka localhost:9092
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/tidemill/tidemill/test/bench/harness"
)

type config struct {
	binary   string
	rate     int
	length   time.Duration
	perSend  int
	kafka    string
	period   string
	features bool
	profile  string
	keep     bool
	json     bool
	check    bool
}

// What -check holds a run against: the promise to users, and what a table that
// is not in trouble does on two cores.
const (
	targetP50 = 400 * time.Millisecond
	targetP99 = time.Second
)

func main() {
	var c config
	flag.StringVar(&c.binary, "binary", "", "product binary (default bin/tidemill)")
	flag.IntVar(&c.rate, "rate", 5000, "rows a second")
	flag.DurationVar(&c.length, "for", time.Minute, "how long to send")
	flag.IntVar(&c.perSend, "rows", 20, "rows in a request")
	flag.StringVar(&c.kafka, "kafka", "", "address of a Kafka broker to send through, one row a record; empty: HTTP")
	flag.StringVar(&c.period, "period", "", "the connector's batching period; empty: the product's default")
	flag.BoolVar(&c.features, "features", true, "compute features")
	flag.StringVar(&c.profile, "profile", "", "directory for profiles of the product while it is under load")
	flag.BoolVar(&c.keep, "keep", false, "keep the project's directory")
	flag.BoolVar(&c.json, "json", false, "print the result once more, as JSON, on the last line")
	flag.BoolVar(&c.check, "check", false, fmt.Sprintf("fail unless p50 < %v and p99 < %v", targetP50, targetP99))
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, c); err != nil {
		fmt.Fprintln(os.Stderr, "bench:latency:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, c config) (err error) {
	binary, err := harness.Binary(c.binary)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "tidemill-latency-")
	if err != nil {
		return err
	}
	if c.keep {
		fmt.Println("project:", dir)
	} else {
		defer os.RemoveAll(dir)
	}
	topic := fmt.Sprintf("latency-%d", time.Now().UnixNano())
	if err := harness.WriteProject(dir, connector(c, topic), harness.Features(c.features)); err != nil {
		return err
	}
	args := []string{}
	if c.profile != "" {
		args = append(args, "--pprof")
	}
	product, err := harness.Start(ctx, binary, dir, args...)
	if err != nil {
		return err
	}
	defer func() {
		if serr := product.Stop(); err == nil {
			err = serr
		}
	}()
	tree := harness.Watch(product.Pid())
	defer tree.Stop()
	store, err := product.Store(ctx)
	if err != nil {
		return err
	}
	watch := newWatcher(store)
	wctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go watch.run(wctx)

	send, closeSender, err := newSender(ctx, c, product.HTTP, topic)
	if err != nil {
		return err
	}
	defer closeSender()
	total := int64(float64(c.rate)*c.length.Seconds()) / int64(c.perSend) * int64(c.perSend)
	fmt.Printf("sending %d rows: %d/s for %v, %d a request, %s\n", total, c.rate, c.length, c.perSend, via(c))
	go profiles(ctx, c, product)
	sent := send.all(ctx, total)
	if err := watch.wait(ctx, product, total); err != nil {
		fmt.Fprintln(os.Stderr, "bench:latency:", err) // what is missing is told below
	}
	cancel()
	r, err := watch.judge(ctx, total)
	if err != nil {
		return err
	}
	r.add(c, sent, tree)
	metrics, err := product.Metrics(ctx)
	if err != nil {
		return err
	}
	r.print(os.Stdout, metrics, tree)
	if c.json {
		line, err := json.Marshal(r)
		if err != nil {
			return err
		}
		fmt.Println(string(line))
	}
	return r.verdict(c.check)
}

func via(c config) string {
	if c.kafka != "" {
		return "through Kafka"
	}
	return "over HTTP"
}

func connector(c config, topic string) string {
	input := "  http_server: {path: /rows, allowed_verbs: [POST]}\n"
	if c.kafka != "" {
		input = fmt.Sprintf("  kafka_franz: {seed_brokers: [%q], topics: [%s], consumer_group: %s, start_offset: earliest}\n", c.kafka, topic, topic)
	}
	batching := ""
	if c.period != "" {
		batching = fmt.Sprintf("\n    batching: {period: %s}", c.period)
	}
	return "input:\n" + input + "output:\n  lakehouse:\n    table: " + harness.Table + batching + "\n"
}

// profiles takes a CPU profile in the middle of the run, and the heap after it.
func profiles(ctx context.Context, c config, p *harness.Product) {
	if c.profile == "" {
		return
	}
	err := os.MkdirAll(c.profile, 0o755)
	if err == nil {
		_, err = p.Profile(ctx, fmt.Sprintf("profile?seconds=%d", max(1, int(c.length.Seconds())-5)), filepath.Join(c.profile, "cpu.pprof"))
	}
	if err == nil {
		_, err = p.Profile(ctx, "allocs", filepath.Join(c.profile, "allocs.pprof"))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:latency: profile:", err)
	}
}
