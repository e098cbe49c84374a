package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemill/tidemill/internal/hist"
	"github.com/tidemill/tidemill/test/bench/harness"
)

// sender sends requests at the times that are set for them.
type sender struct {
	rate, perSend int
	send          func(ctx context.Context, body []byte) error
}

// sendings is what became of the requests.
type sendings struct {
	failed  int64
	first   error
	late    hist.Histogram // between the intended and the actual time of sending
	answers hist.Histogram // between sending and the answer, which comes when the rows are durable
	elapsed time.Duration
}

const timeFormat = "2006-01-02T15:04:05.000000Z"

// all sends rows 0 to total and returns when all are answered. Requests do not
// wait for each other.
func (s sender) all(ctx context.Context, total int64) *sendings {
	var out sendings
	var mu sync.Mutex
	var wg sync.WaitGroup
	start := time.Now()
	for row := int64(0); row < total && ctx.Err() == nil; row += int64(s.perSend) {
		due := start.Add(time.Duration(float64(row) / float64(s.rate) * float64(time.Second)))
		ts := due.UTC().Format(timeFormat)
		body := make([]byte, 0, 256*s.perSend)
		for i := range int64(s.perSend) {
			body = harness.AppendRow(body, row+i, ts)
		}
		if wait := time.Until(due); wait > 0 {
			time.Sleep(wait)
		}
		late := time.Since(due)
		wg.Go(func() {
			from := time.Now()
			err := s.send(ctx, body)
			took := time.Since(from)
			mu.Lock()
			defer mu.Unlock()
			out.late.Add(late)
			out.answers.Add(took)
			if err != nil {
				if out.failed++; out.first == nil {
					out.first = err
				}
			}
		})
	}
	out.elapsed = time.Since(start)
	wg.Wait()
	return &out
}

func newSender(ctx context.Context, c config, address, topic string) (sender, func(), error) {
	s := sender{rate: c.rate, perSend: c.perSend}
	if c.kafka == "" {
		t := &http.Transport{MaxIdleConns: 4096, MaxIdleConnsPerHost: 4096}
		client := &http.Client{Transport: t, Timeout: time.Minute}
		s.send = func(ctx context.Context, body []byte) error { return post(ctx, client, address+"/rows", body) }
		return s, t.CloseIdleConnections, nil
	}
	const partitions = 4
	k, err := kgo.NewClient(kgo.SeedBrokers(c.kafka), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0))
	if err != nil {
		return s, nil, err
	}
	if _, err := kadm.NewClient(k).CreateTopic(ctx, partitions, 1, nil, topic); err != nil {
		k.Close()
		return s, nil, fmt.Errorf("create topic %s: %w", topic, err)
	}
	var next atomic.Int32
	s.send = func(ctx context.Context, body []byte) error {
		var records []*kgo.Record
		p := next.Add(1) % partitions
		for line := range bytes.Lines(body) {
			records = append(records, &kgo.Record{Topic: topic, Partition: p, Value: bytes.TrimRight(line, "\n")})
		}
		return k.ProduceSync(ctx, records...).FirstErr()
	}
	return s, k.Close, nil
}

func post(ctx context.Context, client *http.Client, url string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.200s", resp.Status, text)
	}
	return err
}
