package webhook

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// refusal is an answer other than 200. Its text says what to do, and has
// nothing in it that was secret.
type refusal struct {
	status int
	text   string
	retry  time.Duration // after which to come again; 0: nothing is said
}

func refuse(status int, format string, args ...any) *refusal {
	return &refusal{status: status, text: fmt.Sprintf(format, args...)}
}

// busyFor is how long a client is asked to wait that came when there was no room.
const busyFor = time.Second

// busy is a refusal before anything was taken in.
func busy(why string) *refusal {
	return &refusal{status: http.StatusServiceUnavailable, retry: busyFor, text: why + "; nothing of this request was taken in: send it again after the time in Retry-After"}
}

// unsure is the answer to a request whose rows were handed over, and that
// nothing more is known of.
func unsure(why string) *refusal {
	return &refusal{status: http.StatusServiceUnavailable, retry: busyFor, text: why + "; send it again: with an Idempotency-Key, rows that did come in are not doubled"}
}

func (f *refusal) write(w http.ResponseWriter) {
	if f.retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(seconds(f.retry)))
	}
	if f.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	http.Error(w, f.text, f.status)
}

// seconds rounds up, since 0 would mean at once.
func seconds(d time.Duration) int { return int(max(1, (d+time.Second-1)/time.Second)) }

// landed is the answer to a request whose rows are committed.
type landed struct {
	Rows        int64 `json:"rows"`
	Quarantined int64 `json:"quarantined"`
}

func (l landed) write(w http.ResponseWriter) {
	out, _ := json.Marshal(l) //nolint:errchkjson // two numbers
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(out, '\n'))
}
