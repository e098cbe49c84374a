package httppoll

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemill/tidemill/connectors/paging"
)

// api is a server of numbered rows in pages of three that fails in every way every few requests.
type api struct {
	mu       sync.Mutex
	rows     int
	requests int
	broken   bool // fails now and then
	byLink   bool
	seen     []string // queries
}

const perPage = 3

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.requests++
	a.seen = append(a.seen, r.URL.RawQuery)
	if r.Header.Get("X-Key") != "planted-key" {
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return
	}
	page, _ := strconv.Atoi(r.URL.Query().Get("page"))
	items := []string{}
	for i := page * perPage; i < min(a.rows, (page+1)*perPage); i++ {
		items = append(items, fmt.Sprintf(`{"id": %d, "big": 12345678901234567890.5}`, i))
	}
	body := fmt.Sprintf(`{"data": {"items": [%s]}, "next": null}`, strings.Join(items, ",\n"))
	if a.rows > (page+1)*perPage {
		body = strings.Replace(body, "null", fmt.Sprint(page+1), 1)
		if a.byLink {
			w.Header().Add("Link", fmt.Sprintf(`</items?page=0>; rel="first", </items?page=%d>; rel="next"`, page+1))
		}
	}
	if a.broken {
		switch a.requests % 6 {
		case 1:
			w.WriteHeader(http.StatusInternalServerError)
			return
		case 2:
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		case 3: // half a response, then nothing
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
			_, _ = w.Write([]byte(body[:len(body)/2]))
			panic(http.ErrAbortHandler)
		case 4: // not even a status
			c, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_ = c.Close()
			}
			return
		}
	}
	_, _ = w.Write([]byte(body))
}

func (a *api) add(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rows += n
}

func byNumber(body []byte, _ http.Header) (string, error) {
	var v struct{ Next *int }
	if err := json.Unmarshal(body, &v); err != nil || v.Next == nil {
		return "", err
	}
	return strconv.Itoa(*v.Next), nil
}

func poller(t *testing.T, url string, tune func(*Config)) *Poller {
	t.Helper()
	c := Config{
		URL: url + "/items", Headers: map[string]string{"X-Key": "planted-key"}, Rows: "data.items", Next: byNumber, Param: "page",
		Interval: time.Millisecond, Timeout: 10 * time.Second, MaxBody: 1 << 20,
	}
	if tune != nil {
		tune(&c)
	}
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// pages reads until there are n rows, resuming each page's rows at every place.
func (a *api) read(t *testing.T, p *Poller, n int) (ids []string, states []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for len(ids) < n {
		page, err := paging.NextOf(ctx, p, paging.Backoff{Min: time.Microsecond, Max: time.Millisecond}, func(err error, _ time.Duration) {
			if strings.Contains(err.Error(), "planted") {
				t.Errorf("the key is in %q", err)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		for i, row := range page.Rows {
			var v struct{ ID json.Number }
			if err := json.Unmarshal(row, &v); err != nil || !strings.Contains(string(row), "12345678901234567890.5") || strings.Contains(string(row), "\n") {
				t.Fatalf("row %s: %v", row, err)
			}
			ids, states = append(ids, v.ID.String()), append(states, page.State(i))
		}
	}
	return ids, states
}

func want(t *testing.T, got []string, from, to int) {
	t.Helper()
	var ids []string
	for i := from; i < to; i++ {
		ids = append(ids, strconv.Itoa(i))
	}
	if strings.Join(got, " ") != strings.Join(ids, " ") {
		t.Fatalf("got %v, want %v", got, ids)
	}
}

// TestPages reads an API that fails all the time and grows meanwhile, by token and by
// link; from behind any row, a new poller goes on with the one after it.
func TestPages(t *testing.T) {
	for name, tune := range map[string]func(*Config){
		"token": nil,
		"link":  func(c *Config) { c.Next, c.FollowLink, c.Param = nil, true, "" },
		"address": func(c *Config) {
			c.Param, c.Next = "", func(body []byte, h http.Header) (string, error) {
				n, err := byNumber(body, h)
				if n != "" {
					n = "?page=" + n
				}
				return n, err
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := &api{broken: true, byLink: true, rows: 10}
			srv := httptest.NewServer(a)
			defer srv.Close()
			p := poller(t, srv.URL, tune)
			ids, states := a.read(t, p, 10)
			want(t, ids, 0, 10)
			a.add(1) // on the page that was read
			more, moreStates := a.read(t, p, 1)
			a.add(9)
			rest, restStates := a.read(t, p, 9)
			ids = append(append(ids, more...), rest...)
			states = append(append(states, moreStates...), restStates...)
			want(t, ids, 0, 20)
			for i, s := range states[:19] {
				q := poller(t, srv.URL, tune)
				if err := q.Resume(s); err != nil {
					t.Fatal(err)
				}
				got, _ := a.read(t, q, 1)
				want(t, got[:1], i+1, i+2)
			}
		})
	}
}

// TestRepeats: without a next page, every response is new rows.
func TestRepeats(t *testing.T) {
	a := &api{rows: 2}
	srv := httptest.NewServer(a)
	defer srv.Close()
	p := poller(t, srv.URL, func(c *Config) { c.Next, c.Param = nil, "" })
	ids, _ := a.read(t, p, 6)
	if got := strings.Join(ids, " "); got != "0 1 0 1 0 1" {
		t.Fatal(got)
	}
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter)
		want   string
		after  time.Duration
	}{
		"unauthorized": {func(w http.ResponseWriter) { w.WriteHeader(http.StatusUnauthorized) }, "401 Unauthorized; check the key", 0},
		"seconds": {func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusServiceUnavailable)
		}, "503", 7 * time.Second},
		"date": {func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", time.Unix(1_700_000_030, 0).UTC().Format(http.TimeFormat))
			w.WriteHeader(http.StatusTooManyRequests)
		}, "429", 30 * time.Second},
		"too long": {func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "999999999")
			w.WriteHeader(http.StatusServiceUnavailable)
		}, "503", time.Hour},
		"elsewhere": {func(w http.ResponseWriter) {
			w.Header().Set("Location", "http://evil.example/")
			w.WriteHeader(http.StatusFound)
		},
			"another host", 0},
		"next elsewhere": {func(w http.ResponseWriter) {
			w.Header().Set("Link", `<http://evil.example/?page=2>; rel=next`)
			_, _ = w.Write([]byte(`{"data":{"items":[]}}`))
		}, "the response names a page on evil.example", 0},
		"no rows":   {func(w http.ResponseWriter) { _, _ = w.Write([]byte(`{"data":{"rows":[]}}`)) }, `no "items" in it`, 0},
		"not json":  {func(w http.ResponseWriter) { _, _ = w.Write([]byte(`<html>`)) }, "response of ", 0},
		"too large": {func(w http.ResponseWriter) { _, _ = w.Write(make([]byte, 1<<20+1)) }, "raise max_response_bytes", 0},
		"page shrank": {func(w http.ResponseWriter) { _, _ = w.Write([]byte(`{"data":{"items":[{}]}}`)) },
			"has 1 rows, and had 2 before", 0},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { c.answer(w) }))
			defer srv.Close()
			p := poller(t, srv.URL+"/?key=planted-key", func(c *Config) {
				c.URL = strings.TrimSuffix(c.URL, "/items")
				c.Next, c.Param, c.FollowLink = nil, "", true
				c.Now = func() time.Time { return time.Unix(1_700_000_000, 0) }
			})
			if name == "page shrank" {
				if err := p.Resume(`{"n":2}`); err != nil {
					t.Fatal(err)
				}
			}
			_, err := p.Next(t.Context())
			u, ok := errors.AsType[*paging.Unavailable](err)
			if !ok || !strings.Contains(err.Error(), c.want) || u.After != c.after || strings.Contains(err.Error(), "planted") {
				t.Fatalf("%v, want %q after %s", err, c.want, c.after)
			}
		})
	}
	p := poller(t, "http://127.0.0.1:1", func(c *Config) { c.URL += "?key=planted-key" })
	if _, err := p.Next(t.Context()); err == nil || strings.Contains(err.Error(), "planted") {
		t.Fatal(err)
	}
}

func TestConfigProblems(t *testing.T) {
	for want, c := range map[string]Config{
		"url: ":          {URL: "api.example.com"},
		"follow_link: ":  {URL: "http://a/", Next: byNumber, FollowLink: true},
		"cursor_param: ": {URL: "http://a/", FollowLink: true, Param: "x"},
		"start: ":        {URL: "http://a/", Start: "1"},
		"interval: ":     {URL: "http://a/"},
	} {
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
}

func TestLinkNext(t *testing.T) {
	for header, want := range map[string]string{
		`<a?x=1,2>; rel="next"`:                     "a?x=1,2",
		`<a>; rel=prev, <b>; title="x"; rel="next"`: "b",
		`<a>; rel="last next"`:                      "a",
		`<a>; rel="prev"`:                           "", "": "", "<": "",
	} {
		if got := linkNext([]string{header}); got != want {
			t.Errorf("%q: %q, want %q", header, got, want)
		}
	}
}
