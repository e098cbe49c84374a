package chaos

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemill/tidemill/internal/testserver"
)

// feeder sends numbered events to the topic until it is stopped.
type feeder struct {
	client *kgo.Client
	stop   context.CancelFunc
	done   chan struct{}

	mu   sync.Mutex
	sent map[int64]position
	errs []error
}

// startFeeder sends perTick events every 20 ms. Most messages are one event;
// every 40th is a block of three lines, which share the message's offset.
func startFeeder(t *testing.T, k *testserver.Kafka, perTick int) *feeder {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	f := &feeder{client: k.Client(t), stop: cancel, done: make(chan struct{}), sent: map[int64]position{}}
	go func() {
		defer close(f.done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for id, n := int64(0), 0; ; {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			for range perTick {
				rows := int64(1)
				if n%40 == 0 {
					rows = 3
				}
				f.send(id, rows, int32(n%partition))
				id += rows
				n++
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-f.done })
	return f
}

func (f *feeder) send(first, rows int64, to int32) {
	value := bytes.TrimSuffix(linesOf(first, rows), []byte("\n"))
	// Not the feeder's context: what was begun must be finished, or nobody
	// would know whether the event is to be expected.
	f.client.Produce(context.Background(), &kgo.Record{Topic: topic, Partition: to, Value: value}, func(r *kgo.Record, err error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if err != nil {
			f.errs = append(f.errs, err)
			return
		}
		for i := range rows {
			f.sent[first+i] = position{fmt.Sprintf("kafka/%s/%d", topic, r.Partition), r.Offset}
		}
	})
}

// finish stops sending and returns where every event is.
func (f *feeder) finish(t *testing.T) map[int64]position {
	t.Helper()
	f.stop()
	<-f.done
	if err := f.client.Flush(t.Context()); err != nil {
		t.Fatalf("flush: %v", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.errs) > 0 {
		t.Fatalf("events that the broker did not take: %v", f.errs[0])
	}
	return f.sent
}

// lag is how many messages the group has not acked yet.
func lag(ctx context.Context, c *kadm.Client) (int64, error) {
	ends, err := c.ListEndOffsets(ctx, topic)
	if err != nil {
		return 0, err
	}
	if err := ends.Error(); err != nil {
		return 0, err
	}
	acked, err := c.FetchOffsets(ctx, group)
	if err != nil {
		return 0, err
	}
	var n int64
	ends.Each(func(o kadm.ListedOffset) {
		n += o.Offset
		if r, ok := acked.Lookup(o.Topic, o.Partition); ok && r.At > 0 {
			n -= r.At
		}
	})
	return n, nil
}

// forget makes the group begin again: with everything, or with what lies back a
// number of messages. The group's members must be dead; it waits until the
// broker has noticed.
func forget(t *testing.T, c *kadm.Client, back int64) {
	t.Helper()
	testserver.Eventually(t, "roll back the group's offsets", 30*time.Second, func(ctx context.Context) error {
		acked, err := c.FetchOffsets(ctx, group)
		if err != nil {
			return err
		}
		to := kadm.Offsets{}
		acked.Each(func(o kadm.OffsetResponse) {
			at := max(0, o.At-back)
			if back < 0 {
				at = 0
			}
			to.AddOffset(o.Topic, o.Partition, at, -1)
		})
		if len(to) == 0 {
			return fmt.Errorf("the group has committed nothing")
		}
		return c.CommitAllOffsets(ctx, group, to)
	})
}
