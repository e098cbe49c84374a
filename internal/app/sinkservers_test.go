package app

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/tidemill/tidemill/internal/testserver"
	"github.com/tidemill/tidemill/lakehouse/objstore/s3"
)

// arrived is what a system has: by tx_id, the keys that it came with.
type arrived map[string][]string

func (a arrived) add(body []byte, key string) error {
	var r struct {
		ID  string `json:"tx_id"`
		Key string `json:"tidemill_key"`
	}
	if err := json.Unmarshal(body, &r); err != nil {
		return fmt.Errorf("%q: %w", body, err)
	}
	if key == "" {
		key = r.Key
	}
	a[r.ID] = append(a[r.ID], key)
	return nil
}

// target starts a system, sets the variables of its page's snippet, and returns how to
// ask the system what it has.
type target func(t *testing.T) func() (arrived, error)

func kafkaTarget(t *testing.T) func() (arrived, error) {
	k := testserver.StartKafka(t)
	k.CreateTopic(t, "alerts", 3)
	t.Setenv("KAFKA", k.Addr)
	c := k.Client(t, kgo.ConsumeTopics("alerts"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	all := arrived{}
	return func() (arrived, error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var err error
		c.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			key := ""
			for _, h := range r.Headers {
				if h.Key == "tidemill_key" {
					key = string(h.Value)
				}
			}
			if e := all.add(r.Value, key); e != nil {
				err = e
			}
		})
		return all, err
	}
}

func rabbitTarget(t *testing.T) func() (arrived, error) {
	r := testserver.StartRabbitMQ(t)
	conn, err := amqp.Dial(r.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	ch, err := conn.Channel()
	if err == nil {
		_, err = ch.QueueDeclare("alerts", true, false, false, false, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("RABBITMQ", r.URL())
	all := arrived{}
	return func() (arrived, error) {
		for {
			m, ok, err := ch.Get("alerts", true)
			if err != nil || !ok {
				return all, err
			}
			if err := all.add(m.Body, m.MessageId); err != nil {
				return all, err
			}
		}
	}
}

func redisClient(t *testing.T) *redis.Client {
	t.Helper()
	r := testserver.StartRedis(t)
	t.Setenv("REDIS", r.URL())
	c := redis.NewClient(&redis.Options{Addr: r.Addr})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func streamRows(ctx context.Context, c *redis.Client) (arrived, error) {
	entries, err := c.XRange(ctx, "alerts", "-", "+").Result()
	if err != nil {
		return nil, err
	}
	all := arrived{}
	for _, e := range entries {
		body, _ := e.Values["body"].(string)
		key, _ := e.Values["tidemill_key"].(string)
		if err := all.add([]byte(body), key); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func redisStreamTarget(t *testing.T) func() (arrived, error) {
	c := redisClient(t)
	return func() (arrived, error) { return streamRows(t.Context(), c) }
}

// redisHashTarget says of each card what its latest row is; see feed for which rows are.
func redisHashTarget(t *testing.T) func() (arrived, error) {
	c := redisClient(t)
	return func() (arrived, error) {
		all := arrived{}
		for card := range cards {
			h, err := c.HGetAll(t.Context(), fmt.Sprintf("card:c%d", card)).Result()
			if err != nil {
				return nil, err
			}
			all[h["tx_id"]] = []string{h["key"]}
		}
		return all, nil
	}
}

func mongoTarget(t *testing.T) func() (arrived, error) {
	f := testserver.StartFerretDB(t)
	url := "mongodb://" + f.Addr
	t.Setenv("MONGODB", url)
	c, err := mongo.Connect(options.Client().ApplyURI(url))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Disconnect(context.WithoutCancel(t.Context())) })
	return func() (arrived, error) {
		cur, err := c.Database("tidemill").Collection("scores").Find(t.Context(), bson.M{})
		if err != nil {
			return nil, err
		}
		var docs []struct {
			ID  string `bson:"tx_id"`
			Key string `bson:"tidemill_key"`
		}
		if err := cur.All(t.Context(), &docs); err != nil {
			return nil, err
		}
		all := arrived{}
		for _, d := range docs {
			all[d.ID] = append(all[d.ID], d.Key)
		}
		return all, nil
	}
}

func postgresTarget(t *testing.T) func() (arrived, error) {
	p := testserver.StartPostgres(t)
	t.Setenv("POSTGRES", p.DSN)
	c := p.Connect(t)
	return func() (arrived, error) {
		rows, err := c.Query(t.Context(), "SELECT tx_id FROM scores WHERE fraud_score IS NOT NULL AND ts IS NOT NULL")
		if err != nil {
			return nil, err
		}
		ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
		all := arrived{}
		for _, id := range ids {
			all[id] = append(all[id], "")
		}
		return all, err
	}
}

func httpTarget(t *testing.T) func() (arrived, error) {
	var mu sync.Mutex
	all := arrived{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		if err == nil {
			err = all.add(body, r.Header.Get("Idempotency-Key"))
		}
		if err != nil || r.Header.Get("Content-Type") != "application/json" {
			http.Error(w, fmt.Sprint(err), http.StatusBadRequest)
		}
	}))
	t.Cleanup(srv.Close)
	t.Setenv("WEBHOOK", srv.URL+"/alerts")
	return func() (arrived, error) {
		mu.Lock()
		defer mu.Unlock()
		out := arrived{}
		for id, keys := range all {
			out[id] = append([]string(nil), keys...)
		}
		return out, nil
	}
}

func s3Target(t *testing.T) func() (arrived, error) {
	m := testserver.StartMinIO(t)
	t.Setenv("S3_ENDPOINT", "http://"+m.Addr)
	t.Setenv("S3_KEY", m.AccessKey)
	t.Setenv("S3_SECRET", m.SecretKey.Reveal())
	store, err := s3.New(t.Context(), s3.Config{Endpoint: "http://" + m.Addr, Bucket: "exports", AccessKey: m.AccessKey, SecretKey: m.SecretKey, CreateBucket: true})
	if err != nil {
		t.Fatal(err)
	}
	return func() (arrived, error) {
		all := arrived{}
		for o, err := range store.List(t.Context(), "scores/", "") {
			if err != nil {
				return nil, err
			}
			data, err := store.Get(t.Context(), o.Key)
			if err != nil {
				return nil, err
			}
			z, err := gzip.NewReader(bytes.NewReader(data))
			if err != nil {
				return nil, err
			}
			text, err := io.ReadAll(z)
			if err != nil {
				return nil, err
			}
			for line := range strings.Lines(string(text)) {
				if err := all.add([]byte(line), ""); err != nil {
					return nil, err
				}
			}
		}
		return all, nil
	}
}
