package s3_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/internal/secret"
	"github.com/tidemill/tidemill/internal/testserver"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/objstore/faulty"
	"github.com/tidemill/tidemill/lakehouse/objstore/s3"
)

// TestProxy: what goes wrong between us and a real server.
func TestProxy(t *testing.T) {
	m := testserver.StartMinIO(t)
	direct := open(t, config(m))
	proxy, err := faulty.StartProxy(m.Addr, faulty.ProxyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	cfg := config(m)
	cfg.Endpoint = proxy.Addr
	s := open(t, cfg)

	t.Run("answer lost", func(t *testing.T) {
		proxy.Set(faulty.ProxyOptions{Match: faulty.Conditional, Fault: faulty.Nth(1, faulty.DropAnswer)})
		err := s.PutIfAbsent(t.Context(), "lost/0", []byte("mine"))
		if !objstore.Retryable(err) || errors.Is(err, fs.ErrExist) {
			t.Errorf("got %v, want an unknown outcome", err)
		}
		if n := proxy.Count(); n != 1 {
			t.Errorf("the driver sent a conditional write %d times", n)
		}
		if got, err := s.Get(t.Context(), "lost/0"); err != nil || string(got) != "mine" {
			t.Errorf("read back %q, %v", got, err)
		}
	})
	t.Run("request lost", func(t *testing.T) {
		proxy.Set(faulty.ProxyOptions{Match: faulty.Conditional, Fault: faulty.Nth(1, faulty.DropRequest)})
		if err := s.PutIfAbsent(t.Context(), "lost/1", []byte("mine")); !objstore.Retryable(err) {
			t.Errorf("got %v", err)
		}
		if _, err := direct.Stat(t.Context(), "lost/1"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("unavailable", func(t *testing.T) {
		proxy.Set(faulty.ProxyOptions{Fault: func(int64, *http.Request) faulty.Fault { return faulty.Unavailable }})
		_, gerr := s.Get(t.Context(), "k")
		_, serr := s.Stat(t.Context(), "k")
		var lerr error
		for _, err := range s.List(t.Context(), "", "") {
			lerr = err
		}
		for _, err := range []error{gerr, serr, lerr, s.Put(t.Context(), "k", nil), s.PutIfAbsent(t.Context(), "k", nil), s.Delete(t.Context(), "k")} {
			if !objstore.Retryable(err) || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("got %v", err)
			}
		}
		if n := proxy.Count(); n != 6 {
			t.Errorf("6 calls made %d requests", n)
		}
	})
	t.Run("conflict", func(t *testing.T) {
		proxy.Set(faulty.ProxyOptions{Match: faulty.Conditional, Fault: faulty.Nth(1, faulty.Conflict)})
		if err := s.PutIfAbsent(t.Context(), "conflict", nil); !errors.Is(err, objstore.ErrConflict) {
			t.Errorf("got %v", err)
		}
		if err := s.PutIfAbsent(t.Context(), "conflict", nil); err != nil {
			t.Errorf("got %v", err)
		}
	})
	t.Run("stall", func(t *testing.T) {
		cfg.Timeout = 50 * time.Millisecond
		s := open(t, cfg)
		proxy.Set(faulty.ProxyOptions{Fault: func(int64, *http.Request) faulty.Fault { return faulty.Stall }})
		_, gerr := s.Get(t.Context(), "k")
		for _, err := range []error{gerr, s.PutIfAbsent(t.Context(), "k", nil)} {
			if !objstore.Retryable(err) {
				t.Errorf("got %v", err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := s.Get(ctx, "k"); !errors.Is(err, context.DeadlineExceeded) || objstore.Retryable(err) {
			t.Errorf("the caller's own deadline gives %v", err)
		}
	})
	t.Run("conditions ignored", func(t *testing.T) {
		proxy.Set(faulty.ProxyOptions{Overwrite: func(ctx context.Context, path string, content []byte) error {
			return direct.Put(ctx, strings.TrimPrefix(path, "/lake/"), content)
		}})
		err := objstore.Probe(t.Context(), s, "probe")
		if !errors.Is(err, objstore.ErrNoConditionalPut) || !strings.Contains(err.Error(), "proxy") {
			t.Errorf("got %v", err)
		}
		for o := range direct.List(t.Context(), "probe", "") {
			t.Errorf("left behind: %s", o.Key)
		}
		proxy.Set(faulty.ProxyOptions{})
		if err := objstore.Probe(t.Context(), s, "probe"); err != nil {
			t.Error(err)
		}
	})
	t.Run("refused", func(t *testing.T) {
		const wrong = "not-the-secret-of-this-server"
		cfg := config(m)
		cfg.SecretKey = secret.New(wrong)
		_, err := s3.New(t.Context(), cfg)
		if err == nil || objstore.Retryable(err) || strings.Contains(err.Error(), wrong) {
			t.Errorf("wrong secret: %v", err)
		}
		cfg = config(m)
		cfg.Bucket, cfg.CreateBucket = "absent", false
		if _, err := s3.New(t.Context(), cfg); err == nil || objstore.Retryable(err) || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "no such bucket") {
			t.Errorf("no bucket: %v", err)
		}
	})
	t.Run("server gone", func(t *testing.T) {
		m.Kill()
		_, gerr := direct.Get(t.Context(), "k")
		for _, err := range []error{gerr, direct.PutIfAbsent(t.Context(), "k", nil)} {
			if !objstore.Retryable(err) {
				t.Errorf("got %v", err)
			}
		}
	})
}

// answers is a server that gives every request the same answer.
func answers(t *testing.T, status int, body string) *s3.Store {
	t.Helper()
	first := true
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if first { // New looks for the bucket
			first = false
			return
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(srv.Close)
	return open(t, s3.Config{Endpoint: srv.URL, Bucket: "lake", AccessKey: "a", SecretKey: secret.New("s")})
}

func TestErrors(t *testing.T) {
	xml := func(code string) string { return "<Error><Code>" + code + "</Code><Message>m</Message></Error>" }
	for _, tt := range []struct {
		status    int
		body      string
		want      error
		retryable bool
	}{
		{412, xml("PreconditionFailed"), fs.ErrExist, false},
		{412, "", fs.ErrExist, false},
		{409, xml("ConditionalRequestConflict"), objstore.ErrConflict, true},
		{409, xml("OperationAborted"), objstore.ErrConflict, true},
		{409, "", objstore.ErrConflict, true},
		{409, xml("ObjectParentIsFile"), nil, false}, // no conflict: it would be repeated for ever
		{404, xml("NoSuchKey"), fs.ErrNotExist, false},
		{404, xml("NoSuchBucket"), nil, false},
		{501, xml("NotImplemented"), objstore.ErrNoConditionalPut, false},
		{500, xml("InternalError"), nil, true},
		{503, xml("SlowDown"), nil, true},
		{502, "<html>bad gateway", nil, true},
		{504, "", nil, true},
		{429, "", nil, true},
		{408, "", nil, true},
		{400, xml("RequestTimeout"), nil, true},
		{400, xml("InvalidArgument"), nil, false},
		{403, xml("AccessDenied"), nil, false},
		{403, xml("SignatureDoesNotMatch"), nil, false},
	} {
		err := answers(t, tt.status, tt.body).PutIfAbsent(t.Context(), "k", []byte("x"))
		if err == nil || (tt.want != nil && !errors.Is(err, tt.want)) || objstore.Retryable(err) != tt.retryable {
			t.Errorf("%d %s: %v (retryable %t)", tt.status, tt.body, err, objstore.Retryable(err))
		}
		for _, other := range []error{fs.ErrExist, fs.ErrNotExist, objstore.ErrConflict, objstore.ErrNoConditionalPut} {
			if errors.Is(err, other) && !errors.Is(tt.want, other) {
				t.Errorf("%d %s: is %v", tt.status, tt.body, other)
			}
		}
	}
}

// TestTruncated: a body that ends early must not pass for the object.
func TestTruncated(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			return
		}
		w.Header().Set("Content-Length", "1000")
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		_, _ = w.Write(make([]byte, 10))
		panic(http.ErrAbortHandler)
	})}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	s := open(t, s3.Config{Endpoint: l.Addr().String(), Bucket: "lake", AccessKey: "a", SecretKey: secret.New("s")})
	data, err := s.Get(t.Context(), "k")
	if err == nil || data != nil || !objstore.Retryable(err) {
		t.Errorf("got %d bytes, %v", len(data), err)
	}
}

func TestConfig(t *testing.T) {
	const password = "pass-in-the-url"
	for endpoint, want := range map[string]string{
		"":                                 "endpoint is empty",
		"http://u:" + password + "@h:9000": "endpoint holds credentials",
		"u:" + password + "@h:9000":        "endpoint holds credentials",
		"http://%zz" + password:            "not a URL",
		"ftp://h":                          `scheme "ftp"`,
		"http://h:9000/bucket":             "has a path",
		"h/bucket":                         "form host:port",
	} {
		_, err := s3.New(t.Context(), s3.Config{Endpoint: endpoint, Bucket: "b"})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), password) {
			t.Errorf("%q: %v", endpoint, err)
		}
	}
	cfg := s3.Config{Endpoint: "h", AccessKey: "a", SecretKey: secret.New("")}
	if _, err := s3.New(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "bucket is empty") || !strings.Contains(err.Error(), "give both") {
		t.Errorf("got %v", err)
	}
	cfg.SecretKey = secret.New(password)
	if out := fmt.Sprintf("%v %+v %#v", cfg, cfg, cfg); strings.Contains(out, password) {
		t.Errorf("config prints its secret: %s", out)
	}
}
