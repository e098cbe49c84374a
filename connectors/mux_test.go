package connectors

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestMuxAsksForNoCompression(t *testing.T) {
	m := NewMux()
	m.of("a", slog.New(slog.DiscardHandler)).HandleFunc("/rows", func(w http.ResponseWriter, r *http.Request) {
		if e := r.Header.Get("Accept-Encoding"); e != "" {
			t.Errorf("the input was told that the client accepts %q", e)
		}
		w.WriteHeader(http.StatusAccepted)
	})
	r := httptest.NewRequest(http.MethodPost, "/rows", nil)
	r.Header.Set("Accept-Encoding", "gzip")
	w := httptest.NewRecorder()
	m.ServeHTTP(w, r)
	if w.Code != http.StatusAccepted {
		t.Fatalf("status %d", w.Code)
	}
}
