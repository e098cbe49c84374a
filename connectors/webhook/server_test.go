package webhook

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/tidemill/tidemill/internal/secret"
)

// sink takes a server's messages and keeps what came with them.
type sink struct {
	mu   sync.Mutex
	got  []string // "key first lines data"
	err  error
	stop context.CancelFunc
}

// serve starts a server whose messages a sink takes; tune may be nil.
func serve(t *testing.T, tune func(*Config)) (*Server, *httptest.Server, *sink) {
	t.Helper()
	s := newServer(t, tune)
	ctx, cancel := context.WithCancel(t.Context())
	k := &sink{stop: cancel}
	go func() {
		for {
			m, err := s.Next(ctx)
			if err != nil {
				return
			}
			k.mu.Lock()
			k.got = append(k.got, fmt.Sprintf("%s %d %d %s", m.Key, m.First, m.Lines, m.Data))
			m.Count(int64(bytes.Count(m.Data, []byte("{"))), 0)
			m.Done(k.err)
			k.mu.Unlock()
		}
	}()
	mux := http.NewServeMux()
	mux.Handle("/", s)
	mux.Handle("/ws", s.Socket())
	srv := httptest.NewServer(mux)
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
		srv.Close()
		cancel()
		if !s.memory.TryAcquire(s.c.MaxPending) {
			t.Error("memory was not given back")
		}
	})
	return s, srv, k
}

func newServer(t *testing.T, tune func(*Config)) *Server {
	t.Helper()
	c := Config{Timeout: 10 * time.Second, MaxBody: 1 << 20, MaxPending: 4 << 20}
	if tune != nil {
		tune(&c)
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (k *sink) taken() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return strings.Join(k.got, "|")
}

func (k *sink) fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.err = err
}

// post sends a body; headers are "name: value" lines.
func post(t *testing.T, url, body string, headers ...string) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(text)), resp.Header
}

func gzipOf(data string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, data)
	_ = w.Close()
	return b.String()
}

func zstdOf(t *testing.T, data string) string {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(w.EncodeAll([]byte(data), nil))
}

func TestBodies(t *testing.T) {
	const two = "{\"id\":1}\n{\"id\":2}\n"
	for name, c := range map[string]struct {
		body    string
		headers []string
		status  int
		want    string // taken, or in the answer
	}{
		"one":              {`{"id":1}`, nil, 200, ` 0 0 {"id":1}`},
		"ndjson":           {two, []string{"Content-Type: application/x-ndjson", "Idempotency-Key: k"}, 200, "k 0 2 " + two},
		"curl's type":      {two, []string{"Content-Type: application/x-www-form-urlencoded"}, 200, " 0 0 " + two},
		"csv":              {"id,name\n1,a\n2,\n", []string{"Content-Type: text/csv; charset=utf-8"}, 200, " 0 2 {\"id\":1,\"name\":\"a\"}\n{\"id\":2,\"name\":null}\n"},
		"gzip":             {gzipOf(two), []string{"Content-Encoding: gzip"}, 200, " 0 0 " + two},
		"gzipped csv":      {gzipOf("id\n1\n"), []string{"Content-Encoding: gzip", "Content-Type: text/csv"}, 200, " 0 1 {\"id\":1}\n"},
		"zstd":             {zstdOf(t, two), []string{"Content-Encoding: zstd"}, 200, " 0 0 " + two},
		"nothing":          {" \n", nil, 200, ""},
		"not gzip":         {two, []string{"Content-Encoding: gzip"}, 400, "not the gzip stream"},
		"half gzip":        {gzipOf(two)[:20], []string{"Content-Encoding: gzip"}, 400, "ends too early"},
		"gzip with a tail": {gzipOf(two) + "junk", []string{"Content-Encoding: gzip"}, 400, "send it again"},
		"not zstd":         {two, []string{"Content-Encoding: zstd"}, 400, "not the zstd stream"},
		"br":               {two, []string{"Content-Encoding: br"}, 415, "use gzip, zstd or none"},
		"latin1":           {two, []string{"Content-Type: text/csv; charset=iso-8859-1"}, 415, "utf-8"},
		"form":             {two, []string{"Content-Type: multipart/form-data; boundary=x"}, 415, "--data-binary"},
		"bad csv":          {"a,b\n1\n", []string{"Content-Type: text/csv"}, 400, "line 2 has 1 fields"},
		"too large":        {strings.Repeat("x", 1<<20+1), nil, 413, "max_body_bytes"},
		"largest":          {"{" + strings.Repeat(" ", 1<<20-2) + "}", nil, 200, " 0 0 {" + strings.Repeat(" ", 1<<20-2) + "}"},
		"bomb":             {gzipOf(strings.Repeat("x", 32<<20)), []string{"Content-Encoding: gzip"}, 413, "max_body_bytes"},
		"zstd bomb":        {zstdOf(t, strings.Repeat("x", 32<<20)), []string{"Content-Encoding: zstd"}, 413, "max_body_bytes"},
		"csv bomb":         {strings.Repeat("n", 1000) + "\n" + strings.Repeat("1\n", 5000), []string{"Content-Type: text/csv"}, 413, "max_body_bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			_, srv, k := serve(t, nil)
			status, text, _ := post(t, srv.URL, c.body, c.headers...)
			if status != c.status {
				t.Fatalf("status %d: %s", status, text)
			}
			switch got := k.taken(); {
			case status != 200 && (got != "" || !strings.Contains(text, c.want)):
				t.Errorf("took %q, answered %q; want %q in the answer", got, text, c.want)
			case status == 200 && got != c.want:
				t.Errorf("took %.200q, want %.200q", got, c.want)
			}
		})
	}
}

// TestLongBodiesAreCut: blocks of whole lines that know where in the request
// they begin, and together are the request.
func TestLongBodiesAreCut(t *testing.T) {
	s := newServer(t, func(c *Config) { c.MaxBody, c.MaxPending = 64<<20, 128<<20 })
	row := `{"id":1,"text":"` + strings.Repeat("x", 1000) + `"}` + "\n"
	data := []byte(strings.Repeat(row, 10_000) + "\n" + strings.TrimSpace(row))
	msgs := s.messages(body{data: data}, nil, "k")
	var all []byte
	var line int64
	for _, m := range msgs {
		if m.First != line || len(m.Data) > blockBytes+len(row) || m.Key != "k" {
			t.Fatalf("a block of %d bytes begins with line %d, want %d", len(m.Data), m.First, line)
		}
		all, line = append(all, m.Data...), line+m.Lines
	}
	if len(msgs) != 3 || !bytes.Equal(all, data) || line != 10_002 {
		t.Fatalf("%d blocks, %d of %d bytes, %d lines", len(msgs), len(all), len(data), line)
	}
	// What is not a row a line stays whole.
	for _, whole := range []string{"[" + strings.Repeat(row[:len(row)-1]+",\n", 10_000) + row + "]", "{\n\"a\":[" + strings.Repeat("1,\n", 2<<20) + "1]}"} {
		if msgs := s.messages(body{data: []byte(whole)}, nil, ""); len(msgs) != 1 || msgs[0].Lines != 0 {
			t.Fatalf("a value on several lines was cut into %d", len(msgs))
		}
	}
	s.c.Single = true
	msgs = s.messages(body{data: []byte("{\"a\":1}\r\n\n{\"a\":2}"), lines: true}, nil, "")
	if len(msgs) != 2 || string(msgs[0].Data) != `{"a":1}` || msgs[1].First != 2 || string(msgs[1].Data) != `{"a":2}` {
		t.Fatalf("single lines: %d messages", len(msgs))
	}
}

func TestAnswers(t *testing.T) {
	_, srv, k := serve(t, nil)
	if status, text, h := post(t, srv.URL, `{"id":1}{`); status != 200 || text != `{"rows":2,"quarantined":0}` || h.Get("Content-Type") != "application/json" {
		t.Fatalf("%d %s", status, text)
	}
	k.fail(errors.New("password=hunter2 in the text of a driver"))
	if status, text, h := post(t, srv.URL, `{"id":1}`); status != 503 || h.Get("Retry-After") != "1" || !strings.Contains(text, "send it again") || strings.Contains(text, "hunter2") {
		t.Fatalf("%d %s", status, text)
	}
	resp, err := http.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Allow") != "POST" {
		t.Fatalf("GET: %s, allowed %q", resp.Status, resp.Header.Get("Allow"))
	}
}

func TestRateLimit(t *testing.T) {
	_, srv, k := serve(t, func(c *Config) {
		c.Limit = func(context.Context) (time.Duration, error) { return 1500 * time.Millisecond, nil }
	})
	if status, text, h := post(t, srv.URL, `{"id":1}`); status != 429 || h.Get("Retry-After") != "2" || k.taken() != "" {
		t.Fatalf("%d %s", status, text)
	}
}

func TestTokens(t *testing.T) {
	_, srv, k := serve(t, func(c *Config) { c.Auth.Tokens = []secret.String{secret.New("old"), secret.New("new")} })
	for header, want := range map[string]int{
		"X: y": 401, "Authorization: Bearer wrong": 401, "Authorization: old": 401, "Authorization: Bearer ": 401,
		"Authorization: Bearer old": 200, "Authorization: bearer new": 200,
	} {
		status, text, _ := post(t, srv.URL, `{"id":1}`, header)
		if status != want || status == 401 && !strings.Contains(text, `"Authorization: Bearer"`) || strings.Contains(text, "old") {
			t.Errorf("%s: %d %s", header, status, text)
		}
	}
	if n := strings.Count(k.taken(), "id"); n != 2 {
		t.Errorf("%d requests were taken in", n)
	}
	_, srv, _ = serve(t, func(c *Config) { c.Auth = Auth{Tokens: []secret.String{secret.New("k")}, Header: "X-Api-Key"} })
	if status, _, _ := post(t, srv.URL, `{"id":1}`, "X-Api-Key: k"); status != 200 {
		t.Errorf("own header: %d", status)
	}
}

func sign(key, text string) []byte {
	m := hmac.New(sha256.New, []byte(key))
	_, _ = io.WriteString(m, text)
	return m.Sum(nil)
}

// TestSignatures holds the forms that GitHub, Stripe, Slack and Shopify have.
func TestSignatures(t *testing.T) {
	const payload = `{"id":1}`
	now := time.Unix(1_700_000_000, 0)
	github := HMAC{Secrets: []secret.String{secret.New("s1"), secret.New("s2")}, Header: "X-Hub-Signature-256", Algorithm: "sha256", Encoding: "hex", Prefix: "sha256=", Signed: "{body}"}
	stripe := HMAC{Secrets: []secret.String{secret.New("s1")}, Header: "Stripe-Signature", Algorithm: "sha256", Encoding: "hex", Prefix: "v1=", Signed: "{timestamp}.{body}", TimestampHeader: "Stripe-Signature", TimestampPrefix: "t=", Tolerance: 5 * time.Minute}
	slack := HMAC{Secrets: []secret.String{secret.New("s1")}, Header: "X-Slack-Signature", Algorithm: "sha256", Encoding: "hex", Prefix: "v0=", Signed: "v0:{timestamp}:{body}", TimestampHeader: "X-Slack-Request-Timestamp", Tolerance: 5 * time.Minute}
	shopify := HMAC{Secrets: []secret.String{secret.New("s1")}, Header: "X-Shopify-Hmac-Sha256", Algorithm: "sha256", Encoding: "base64", Signed: "{body}"}
	hexOf := func(key, text string) string { return hex.EncodeToString(sign(key, text)) }
	for name, c := range map[string]struct {
		h       HMAC
		headers []string
		body    string
		status  int
	}{
		"github":               {github, []string{"X-Hub-Signature-256: sha256=" + hexOf("s1", payload)}, payload, 200},
		"github, second key":   {github, []string{"X-Hub-Signature-256: sha256=" + hexOf("s2", payload)}, payload, 200},
		"github, other key":    {github, []string{"X-Hub-Signature-256: sha256=" + hexOf("s3", payload)}, payload, 401},
		"github, no prefix":    {github, []string{"X-Hub-Signature-256: " + hexOf("s1", payload)}, payload, 401},
		"github, other body":   {github, []string{"X-Hub-Signature-256: sha256=" + hexOf("s1", payload)}, payload + " ", 401},
		"github, no signature": {github, nil, payload, 401},
		"github, not hex":      {github, []string{"X-Hub-Signature-256: sha256=zz"}, payload, 401},
		"github, gzip as sent": {github, []string{"Content-Encoding: gzip", "X-Hub-Signature-256: sha256=" + hexOf("s1", gzipOf(payload))}, gzipOf(payload), 200},
		"github, gzip as was":  {github, []string{"Content-Encoding: gzip", "X-Hub-Signature-256: sha256=" + hexOf("s1", payload)}, gzipOf(payload), 401},
		"stripe":               {stripe, []string{"Stripe-Signature: t=1699999990,v1=" + strings.Repeat("0", 64) + ",v1=" + hexOf("s1", "1699999990."+payload)}, payload, 200},
		"stripe, too old":      {stripe, []string{"Stripe-Signature: t=1699999000,v1=" + hexOf("s1", "1699999000."+payload)}, payload, 401},
		"stripe, other time":   {stripe, []string{"Stripe-Signature: t=1699999991,v1=" + hexOf("s1", "1699999990."+payload)}, payload, 401},
		"stripe, no time":      {stripe, []string{"Stripe-Signature: v1=" + hexOf("s1", "."+payload)}, payload, 401},
		"slack":                {slack, []string{"X-Slack-Request-Timestamp: 1700000001", "X-Slack-Signature: v0=" + hexOf("s1", "v0:1700000001:"+payload)}, payload, 200},
		"shopify":              {shopify, []string{"X-Shopify-Hmac-Sha256: " + base64.StdEncoding.EncodeToString(sign("s1", payload))}, payload, 200},
	} {
		t.Run(name, func(t *testing.T) {
			_, srv, k := serve(t, func(cfg *Config) { cfg.Auth.HMAC, cfg.Now = &c.h, func() time.Time { return now } })
			status, text, _ := post(t, srv.URL, c.body, c.headers...)
			if status != c.status || (status == 200) != (k.taken() != "") {
				t.Fatalf("%d %s; took %q", status, text, k.taken())
			}
			if status == 401 && !strings.Contains(text, c.h.Header) && !strings.Contains(text, "timestamp") {
				t.Errorf("%q does not say what to do", text)
			}
		})
	}
}

func TestConfigProblems(t *testing.T) {
	_, err := New(Config{Timeout: time.Second, MaxBody: 1 << 20, MaxPending: 1 << 20, Auth: Auth{
		Tokens: []secret.String{secret.New("x"), {}}, HMAC: &HMAC{Algorithm: "md5", Encoding: "hex", Signed: "{timestamp}"},
	}})
	for _, want := range []string{"max_pending_bytes: ", "auth.tokens[1]: is empty", "auth.hmac.secrets: missing", "auth.hmac.header: missing", "auth.hmac.algorithm: ", "auth.hmac.signed: "} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
}

// TestMemoryIsBounded: with nobody taking rows, requests beyond the limit are
// refused at once, and those within it when their time is up.
func TestMemoryIsBounded(t *testing.T) {
	s := newServer(t, func(c *Config) { c.MaxPending, c.Timeout = 2<<20, 200*time.Millisecond })
	srv := httptest.NewServer(s)
	defer srv.Close()
	big := "{" + strings.Repeat(" ", 900<<10) + "}"
	var wg sync.WaitGroup
	refused := make(chan string, 8)
	for range 8 {
		wg.Go(func() {
			status, text, h := post(t, srv.URL, big)
			if status != 503 || h.Get("Retry-After") == "" || !strings.Contains(text, "nothing of this request was taken in") {
				t.Errorf("%d %s", status, text)
			}
			refused <- text
		})
	}
	wg.Wait()
	close(refused)
	late := 0
	for text := range refused {
		if strings.Contains(text, "more slowly") {
			late++
		}
	}
	if late == 0 || late > 2 {
		t.Errorf("%d requests of 900 kB were held at once in 2 MiB", late)
	}
	if !s.memory.TryAcquire(s.c.MaxPending) {
		t.Error("memory was not given back")
	}
}

// TestDrain: what was taken is answered when it is done, what was not is
// refused, and so is what comes later.
func TestDrain(t *testing.T) {
	s := newServer(t, nil)
	srv := httptest.NewServer(s)
	defer srv.Close()
	answers := make(chan string, 2)
	send := func(id string) {
		status, text, _ := post(t, srv.URL, `{"id":"`+id+`"}`)
		answers <- fmt.Sprintf("%s %d %t", id, status, strings.Contains(text, "nothing of this request"))
	}
	go send("taken")
	m, err := s.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	go send("waiting")
	// It waits once its body is read, for which it holds memory.
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	free := s.c.MaxPending - 2*overhead - int64(len(`{"id":"taken"}`)+1)
	for s.memory.TryAcquire(free) {
		s.memory.Release(free)
		<-tick.C
	}
	s.Drain()
	if got := <-answers; got != "waiting 503 true" {
		t.Fatal(got)
	}
	if status, text, _ := post(t, srv.URL, `{}`); status != 503 || !strings.Contains(text, "stopping") {
		t.Fatalf("%d %s", status, text)
	}
	m.Done(nil)
	if got := <-answers; got != "taken 200 false" {
		t.Fatal(got)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestCORS(t *testing.T) {
	_, srv, _ := serve(t, func(c *Config) { c.CORS = CORS{Enabled: true, Origins: []string{"https://shop.example"}} })
	req, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, srv.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Origin", "https://shop.example")
	req.Header.Set("Access-Control-Request-Method", "POST")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent || resp.Header.Get("Access-Control-Allow-Origin") != "https://shop.example" {
		t.Fatalf("%s %v", resp.Status, resp.Header)
	}
	if _, _, h := post(t, srv.URL, "{}", "Origin: https://evil.example"); h.Get("Access-Control-Allow-Origin") != "" {
		t.Fatal("another origin is allowed")
	}
}
