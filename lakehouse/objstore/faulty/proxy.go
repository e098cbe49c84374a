package faulty

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"
)

// Fault is what a Proxy does to a request.
type Fault int

// The faults.
const (
	Pass        Fault = iota // nothing
	DropRequest              // close the connection; the server never sees the request
	DropAnswer               // let the server do it, then close the connection without an answer
	Unavailable              // answer 503 without asking the server
	Conflict                 // answer 409 ConditionalRequestConflict without asking the server
	Internal                 // answer 500 InternalError without asking the server
	Stall                    // hold the request until the client gives up or the proxy closes
)

// ProxyOptions say how a Proxy misbehaves.
type ProxyOptions struct {
	// Match restricts Fault, and its counting, to some requests; nil: every request.
	Match func(*http.Request) bool
	// Fault decides about the n-th matching request, from 1; nil passes all.
	Fault func(n int64, r *http.Request) Fault
	// Latency is how long a matching request waits before anything else; nil: not at all.
	Latency func(n int64, r *http.Request) time.Duration
	// Overwrite, if set, carries out the conditional writes: of content to path
	// ("/bucket/key"), unconditionally. The server then looks like one that does not
	// know conditional writes. (To drop the header would break the request's signature.)
	Overwrite func(ctx context.Context, path string, content []byte) error
}

// Proxy is an HTTP reverse proxy in front of an S3 endpoint.
type Proxy struct {
	// Addr is the host:port that clients use instead of the server's.
	Addr string

	server *http.Server
	closed chan struct{}

	mu   sync.Mutex
	opts ProxyOptions // guarded by mu
	n    int64        // guarded by mu
}

// StartProxy runs a proxy on a free loopback port for the server at target (host:port).
func StartProxy(target string, o ProxyOptions) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start proxy: %w", err)
	}
	p := &Proxy{Addr: l.Addr().String(), opts: o, closed: make(chan struct{})}
	reverse := &httputil.ReverseProxy{
		// Host stays what the client signed.
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: target})
			r.Out.Host = r.In.Host
		},
		Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true},
		ModifyResponse: func(r *http.Response) error {
			if r.Request.Context().Value(dropKey{}) != nil {
				return errDropped
			}
			return nil
		},
		// The client sees a broken connection, as when the server's answer is lost.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	p.server = &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.serve(reverse, w, r) }),
		ReadHeaderTimeout: time.Minute,
	}
	go func() { _ = p.server.Serve(l) }()
	return p, nil
}

type dropKey struct{}

var errDropped = errors.New("answer dropped")

func (p *Proxy) serve(next http.Handler, w http.ResponseWriter, r *http.Request) {
	fault, delay, overwrite := p.decide(r)
	if delay > 0 {
		_ = sleep(r.Context(), delay)
	}
	switch fault {
	case DropRequest:
		panic(http.ErrAbortHandler)
	case DropAnswer:
		// The server must get it even if the client has gone meanwhile.
		r = r.WithContext(context.WithValue(context.WithoutCancel(r.Context()), dropKey{}, true))
	case Unavailable:
		answer(w, http.StatusServiceUnavailable, "SlowDown")
		return
	case Conflict:
		answer(w, http.StatusConflict, "ConditionalRequestConflict")
		return
	case Internal:
		answer(w, http.StatusInternalServerError, "InternalError")
		return
	case Stall:
		select {
		case <-r.Context().Done():
		case <-p.closed:
		}
		panic(http.ErrAbortHandler)
	}
	if overwrite != nil && Conditional(r) {
		content, err := io.ReadAll(r.Body)
		if err == nil {
			err = overwrite(r.Context(), r.URL.Path, content)
		}
		if err != nil {
			answer(w, http.StatusInternalServerError, "InternalError")
		}
		return
	}
	next.ServeHTTP(w, r)
}

func answer(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code><Message>injected failure</Message></Error>", code)
}

// decide is what to do with r: the fault, the wait, and how to carry out a conditional write.
func (p *Proxy) decide(r *http.Request) (Fault, time.Duration, func(context.Context, string, []byte) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.opts.Match != nil && !p.opts.Match(r) {
		return Pass, 0, p.opts.Overwrite
	}
	p.n++
	fault, delay := Pass, time.Duration(0)
	if p.opts.Fault != nil {
		fault = p.opts.Fault(p.n, r)
	}
	if p.opts.Latency != nil {
		delay = p.opts.Latency(p.n, r)
	}
	return fault, delay, p.opts.Overwrite
}

// Set replaces the options and starts counting anew.
func (p *Proxy) Set(o ProxyOptions) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.opts, p.n = o, 0
}

// Count is how many requests matched since the options were set.
func (p *Proxy) Count() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.n
}

// Close ends the proxy and the connections through it.
func (p *Proxy) Close() {
	close(p.closed)
	_ = p.server.Close()
}

// Nth is a ProxyOptions.Fault for the n-th matching request only.
func Nth(n int64, f Fault) func(int64, *http.Request) Fault {
	return func(i int64, _ *http.Request) Fault {
		if i == n {
			return f
		}
		return Pass
	}
}

// Rates are the probabilities of faults of a bad network and an overloaded server.
type Rates struct {
	DropRequest, DropAnswer, Unavailable, Internal float64
	Conflict                                       float64 // of conditional writes only
}

// Random is a ProxyOptions.Fault that draws a fault for each request, by its number.
func Random(seed uint64, o Rates) func(int64, *http.Request) Fault {
	return func(n int64, r *http.Request) Fault {
		x := draw(seed, n)
		for _, c := range []struct {
			rate  float64
			fault Fault
		}{{o.DropRequest, DropRequest}, {o.DropAnswer, DropAnswer}, {o.Unavailable, Unavailable}, {o.Internal, Internal}, {o.Conflict, Conflict}} {
			if x < c.rate {
				if c.fault == Conflict && !Conditional(r) {
					return Pass
				}
				return c.fault
			}
			x -= c.rate
		}
		return Pass
	}
}

// Jitter is a ProxyOptions.Latency: most requests wait up to usual, one in a hundred up
// to ten times as long.
func Jitter(seed uint64, usual time.Duration) func(int64, *http.Request) time.Duration {
	return func(n int64, _ *http.Request) time.Duration {
		x := draw(seed^0x6c6174, n)
		if x < 0.01 {
			return time.Duration(x * 1000 * float64(usual))
		}
		return time.Duration(x * float64(usual))
	}
}

// draw is a number in [0,1) for the n-th request.
func draw(seed uint64, n int64) float64 { return rand.New(rand.NewPCG(seed, uint64(n))).Float64() }

// Conditional is a ProxyOptions.Match for conditional writes.
func Conditional(r *http.Request) bool {
	return r.Method == http.MethodPut && r.Header.Get("If-None-Match") != ""
}
