package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/tidemill/tidemill/internal/secret"
)

func dial(t *testing.T, url string, header http.Header) *websocket.Conn {
	t.Helper()
	ws, resp, err := websocket.DefaultDialer.DialContext(t.Context(), "ws"+strings.TrimPrefix(url, "http")+"/ws", header)
	if err != nil {
		t.Fatalf("%v: %v", err, resp)
	}
	resp.Body.Close()
	t.Cleanup(func() { ws.Close() })
	return ws
}

// TestSocket: every message is answered in its order, and a key makes the
// connection's rows one sequence.
func TestSocket(t *testing.T) {
	_, srv, k := serve(t, func(c *Config) { c.Welcome = "hello" })
	ws := dial(t, srv.URL, http.Header{KeyHeader: {"k"}})
	read := func() string {
		t.Helper()
		_, data, err := ws.ReadMessage()
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	if got := read(); got != "hello" {
		t.Fatal(got)
	}
	// All are sent before the first answer is read.
	for _, m := range []string{`{"id":1}`, "{\"id\":2}\n{\"id\":3}\n", " ", `{"id":4}`} {
		if err := ws.WriteMessage(websocket.TextMessage, []byte(m)); err != nil {
			t.Fatal(err)
		}
	}
	for i, rows := range []int{1, 2, 0, 1} {
		if got, want := read(), fmt.Sprintf(`{"n":%d,"ok":true,"rows":%d,"quarantined":0}`, i+1, rows); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
	if got, want := k.taken(), "k 0 0 {\"id\":1}|k 1 0 {\"id\":2}\n{\"id\":3}\n|k 4 0 {\"id\":4}"; got != want {
		t.Fatalf("took %q, want %q", got, want)
	}
	k.fail(errors.New("no"))
	if err := ws.WriteMessage(websocket.TextMessage, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if got := read(); !strings.Contains(got, `"n":5,"ok":false`) || !strings.Contains(got, "send it again") {
		t.Fatal(got)
	}
	if err := ws.WriteMessage(websocket.TextMessage, make([]byte, 1<<20+1)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ws.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseMessageTooBig) {
		t.Fatalf("a message that is too large: %v", err)
	}
}

func httptestServer(t *testing.T, h http.Handler) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL
}

// TestSocketDrain: what was taken is answered before the connection is closed.
func TestSocketDrain(t *testing.T) {
	s := newServer(t, nil)
	mux := http.NewServeMux()
	mux.Handle("/ws", s.Socket())
	srv := httptestServer(t, mux)
	ws := dial(t, srv, nil)
	if err := ws.WriteMessage(websocket.TextMessage, []byte(`{}`)); err != nil {
		t.Fatal(err)
	}
	m, err := s.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.Drain()
	m.Done(nil)
	if _, data, err := ws.ReadMessage(); err != nil || !strings.Contains(string(data), `"ok":true`) {
		t.Fatalf("%s %v", data, err)
	}
	if _, _, err := ws.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseGoingAway) {
		t.Fatalf("closed with %v", err)
	}
	if err := s.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func TestSocketAuth(t *testing.T) {
	_, srv, _ := serve(t, func(c *Config) { c.Auth.Tokens = []secret.String{secret.New("t")} })
	refused := func(url string, header http.Header, want int) {
		t.Helper()
		_, resp, err := websocket.DefaultDialer.DialContext(t.Context(), "ws"+strings.TrimPrefix(url, "http")+"/ws", header)
		if err == nil || resp == nil || resp.StatusCode != want {
			t.Fatalf("want %d, got %v %v", want, resp, err)
		}
		resp.Body.Close()
	}
	refused(srv.URL, nil, 401)
	refused(srv.URL, http.Header{"Authorization": {"Bearer t"}, "Origin": {"https://evil.example"}}, 403)
	dial(t, srv.URL, http.Header{"Authorization": {"Bearer t"}})
	_, srv, _ = serve(t, func(c *Config) {
		c.Auth.HMAC = &HMAC{Secrets: []secret.String{secret.New("t")}, Header: "X", Algorithm: "sha256", Encoding: "hex", Signed: "{body}"}
	})
	refused(srv.URL, nil, 403)
	if status, _, _ := post(t, srv.URL+"/ws", "{}"); status != 403 {
		t.Fatalf("a request without an upgrade: %d", status)
	}
}
