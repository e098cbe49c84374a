// Package storetest is the conformance suite of objstore.Store: every driver passes it,
// the in-memory double and the real servers alike, so that what is tested on the one
// holds on the others. It is for tests only.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemill/tidemill/lakehouse/objstore"
)

// Run checks that the store made by open behaves as objstore.Store promises. open is
// called once per subtest and must give an empty store (a fresh prefix will do).
func Run(t *testing.T, open func(t *testing.T) objstore.Store) {
	t.Helper()
	for _, tt := range []struct {
		name string
		f    func(*testing.T, objstore.Store)
	}{
		{"RoundTrip", testRoundTrip},
		{"Absent", testAbsent},
		{"Overwrite", testOverwrite},
		{"PutIfAbsent", testPutIfAbsent},
		{"PutIfAbsentRace", testPutIfAbsentRace},
		{"PutIfAbsentAfterDelete", testPutIfAbsentAfterDelete},
		{"CallerOwnsSlices", testCallerOwnsSlices},
		{"Stat", testStat},
		{"ListOrder", testListOrder},
		{"ListPages", testListPages},
		{"ListEarlyStop", testListEarlyStop},
		{"DeleteLeavesSiblings", testDeleteLeavesSiblings},
		{"Keys", testKeys},
		{"BadKeys", testBadKeys},
		{"Cancelled", testCancelled},
		{"Prefix", testPrefix},
		{"Probe", testProbe},
		{"Concurrent", testConcurrent},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.f(t, open(t)) })
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantIs(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want %v", err, want)
	}
}

func wantContent(t *testing.T, s objstore.Store, key string, want []byte) {
	t.Helper()
	got, err := s.Get(t.Context(), key)
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Fatalf("%s: got %d bytes, want %d others", key, len(got), len(want))
	}
}

// Keys lists the keys of s below prefix after startAfter, in the order given.
func Keys(t *testing.T, s objstore.Store, prefix, startAfter string) []string {
	t.Helper()
	keys := []string{}
	for o, err := range s.List(t.Context(), prefix, startAfter) {
		must(t, err)
		keys = append(keys, o.Key)
	}
	return keys
}

func wantKeys(t *testing.T, s objstore.Store, prefix, startAfter string, want ...string) {
	t.Helper()
	got := Keys(t, s, prefix, startAfter)
	if slices.Equal(got, want) {
		return
	}
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	t.Fatalf("list %q after %q: %d keys, want %d; from number %d on:\n got %q\nwant %q",
		prefix, startAfter, len(got), len(want), i, got[i:min(i+5, len(got))], want[i:min(i+5, len(want))])
}

func noise(n int) []byte {
	r := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8)})
	b := make([]byte, n)
	_, _ = r.Read(b)
	return b
}

func testRoundTrip(t *testing.T, s objstore.Store) {
	for _, n := range []int{0, 1, 100, 64<<10 - 1, 64 << 10, 64<<10 + 1, 1 << 20, 20 << 20} {
		key := fmt.Sprintf("size/%d", n)
		must(t, s.Put(t.Context(), key, noise(n)))
		wantContent(t, s, key, noise(n))
		key += "-new"
		must(t, s.PutIfAbsent(t.Context(), key, noise(n)))
		wantContent(t, s, key, noise(n))
	}
}

func testAbsent(t *testing.T, s objstore.Store) {
	_, err := s.Get(t.Context(), "no/such")
	wantIs(t, err, fs.ErrNotExist)
	if objstore.Retryable(err) {
		t.Error("absence is retryable")
	}
	_, err = s.Stat(t.Context(), "no/such")
	wantIs(t, err, fs.ErrNotExist)
	must(t, s.Delete(t.Context(), "no/such"))
	wantKeys(t, s, "", "")

	// A prefix of an object's key is no object.
	must(t, s.Put(t.Context(), "dir/sub/key", []byte("x")))
	for _, key := range []string{"dir", "dir/sub", "dir/su", "dir/sub/key2"} {
		_, err = s.Get(t.Context(), key)
		wantIs(t, err, fs.ErrNotExist)
		_, err = s.Stat(t.Context(), key)
		wantIs(t, err, fs.ErrNotExist)
	}
	must(t, s.Delete(t.Context(), "dir/sub"))
	wantContent(t, s, "dir/sub/key", []byte("x"))
}

func testOverwrite(t *testing.T, s objstore.Store) {
	for _, n := range []int{10, 5, 0, 100_000, 3} {
		must(t, s.Put(t.Context(), "k", noise(n)))
		wantContent(t, s, "k", noise(n))
	}
	must(t, s.Delete(t.Context(), "k"))
	_, err := s.Get(t.Context(), "k")
	wantIs(t, err, fs.ErrNotExist)
}

func testPutIfAbsent(t *testing.T, s objstore.Store) {
	must(t, s.PutIfAbsent(t.Context(), "log/0", []byte("mine")))
	err := s.PutIfAbsent(t.Context(), "log/0", []byte("other"))
	wantIs(t, err, fs.ErrExist)
	if objstore.Retryable(err) {
		t.Error("a taken slot is retryable")
	}
	wantContent(t, s, "log/0", []byte("mine"))
	// The same bytes are refused too: the store does not judge.
	wantIs(t, s.PutIfAbsent(t.Context(), "log/0", []byte("mine")), fs.ErrExist)
	must(t, s.Put(t.Context(), "log/0", []byte("replaced")))
	wantIs(t, s.PutIfAbsent(t.Context(), "log/0", []byte("other")), fs.ErrExist)
	wantContent(t, s, "log/0", []byte("replaced"))
}

// testPutIfAbsentRace is what tables stand on: of many writers of a slot, one wins, and
// its bytes are what everybody reads.
func testPutIfAbsentRace(t *testing.T, s objstore.Store) {
	const writers, slots = 8, 12
	for slot := range slots {
		key := fmt.Sprintf("_delta_log/%020d.json", slot)
		var won atomic.Int32
		var winner atomic.Int32
		var wg sync.WaitGroup
		start := make(chan struct{})
		for w := range writers {
			wg.Go(func() {
				<-start
				for {
					err := s.PutIfAbsent(t.Context(), key, noise(1000+w))
					if errors.Is(err, objstore.ErrConflict) {
						continue
					}
					if err == nil {
						won.Add(1)
						winner.Store(int32(w))
					} else if !errors.Is(err, fs.ErrExist) {
						t.Errorf("loser got %v", err)
					}
					return
				}
			})
		}
		close(start)
		wg.Wait()
		if won.Load() != 1 {
			t.Fatalf("slot %d: %d writers won", slot, won.Load())
		}
		wantContent(t, s, key, noise(1000+int(winner.Load())))
	}
}

func testPutIfAbsentAfterDelete(t *testing.T, s objstore.Store) {
	for i := range 3 {
		must(t, s.PutIfAbsent(t.Context(), "d/k", []byte{byte(i)}))
		wantContent(t, s, "d/k", []byte{byte(i)})
		must(t, s.Delete(t.Context(), "d/k"))
	}
}

func testCallerOwnsSlices(t *testing.T, s objstore.Store) {
	data := []byte("abc")
	must(t, s.Put(t.Context(), "k", data))
	data[0] = 'X'
	got, err := s.Get(t.Context(), "k")
	must(t, err)
	got[1] = 'Y'
	wantContent(t, s, "k", []byte("abc"))
}

func testStat(t *testing.T, s objstore.Store) {
	before := time.Now().Add(-2 * time.Second) // stores count in whole seconds
	must(t, s.Put(t.Context(), "a/k", noise(1234)))
	o, err := s.Stat(t.Context(), "a/k")
	must(t, err)
	if o.Key != "a/k" || o.Size != 1234 || o.ETag == "" || strings.Contains(o.ETag, `"`) {
		t.Errorf("stat gives %+v", o)
	}
	if o.ModTime.Before(before) || o.ModTime.After(time.Now().Add(2*time.Second)) {
		t.Errorf("modification time %v, written after %v", o.ModTime, before)
	}
	for l, err := range s.List(t.Context(), "a/", "") {
		must(t, err)
		if l.Key != o.Key || l.Size != o.Size || l.ModTime.Sub(o.ModTime).Abs() > time.Second {
			t.Errorf("list gives %+v, stat %+v", l, o)
		}
	}
	must(t, s.Put(t.Context(), "a/k", noise(1235)))
	o2, err := s.Stat(t.Context(), "a/k")
	must(t, err)
	if o2.ETag == o.ETag {
		t.Error("the ETag did not change with the content")
	}
}

// testListOrder has names that sort differently as whole keys and as directory entries:
// '-' and '.' come before '/', letters after.
func testListOrder(t *testing.T, s objstore.Store) {
	all := []string{
		"a-b", "a.txt", "a/1", "a/10", "a/2", "a/b.c/d", "a/b/c", "a0", "aa/x", "b",
		"t/_delta_log/00000000000000000001.json", "t/_delta_log/00000000000000000002.json",
		"t/_delta_log/00000000000000000010.checkpoint.parquet", "t/_delta_log/00000000000000000010.json",
		"t/_delta_log/_last_checkpoint", "t/d=2026-01-01/p", "t/d=2026-01-01=/p", "z",
	}
	slices.Sort(all)
	for _, i := range rand.New(rand.NewPCG(1, 2)).Perm(len(all)) {
		must(t, s.Put(t.Context(), all[i], []byte(all[i])))
	}
	// Every prefix and start that can make a difference.
	prefixes := []string{"", "a", "a/", "a/b", "t/_delta_log/", "t/_delta_log/00000000000000000010", "t/d=2026-01-01/", "zz", "none/"}
	starts := append([]string{"", "0", "a", "a/", "a/1", "a/9", "t/_delta_log/00000000000000000001.json", "t/_delta_log/00000000000000000003", "zzz"}, all...)
	for _, p := range prefixes {
		for _, after := range starts {
			want := []string{}
			for _, k := range all {
				if strings.HasPrefix(k, p) && k > after {
					want = append(want, k)
				}
			}
			wantKeys(t, s, p, after, want...)
		}
	}
}

func testListPages(t *testing.T, s objstore.Store) {
	const n = 2100 // stores give at most 1000 at a time
	want := make([]string, n)
	var wg sync.WaitGroup
	sem := make(chan struct{}, 16)
	for i := range n {
		want[i] = fmt.Sprintf("log/%020d.json", i)
		sem <- struct{}{}
		wg.Go(func() {
			defer func() { <-sem }()
			if err := s.Put(t.Context(), want[i], nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	wantKeys(t, s, "log/", "", want...)
	wantKeys(t, s, "log/", want[999], want[1000:]...)
	wantKeys(t, s, "log/", want[n-2], want[n-1])
	wantKeys(t, s, "log/", want[n-1])
}

func testListEarlyStop(t *testing.T, s objstore.Store) {
	for i := range 5 {
		must(t, s.Put(t.Context(), fmt.Sprintf("k%d", i), nil))
	}
	n := 0
	for _, err := range s.List(t.Context(), "", "") {
		must(t, err)
		if n++; n == 2 {
			break
		}
	}
	// The caller may change the store while it lists.
	for o, err := range s.List(t.Context(), "", "") {
		must(t, err)
		must(t, s.Delete(t.Context(), o.Key))
	}
	wantKeys(t, s, "", "")
}

func testDeleteLeavesSiblings(t *testing.T, s objstore.Store) {
	must(t, s.Put(t.Context(), "d/a", []byte("a")))
	must(t, s.Put(t.Context(), "d/b", []byte("b")))
	must(t, s.Delete(t.Context(), "d/a"))
	wantContent(t, s, "d/b", []byte("b"))
	must(t, s.Delete(t.Context(), "d/b"))
	wantKeys(t, s, "", "")
	must(t, s.Put(t.Context(), "d", []byte("a directory before"))) // and is none left
	wantContent(t, s, "d", []byte("a directory before"))
}

func testKeys(t *testing.T, s objstore.Store) {
	keys := []string{
		"a b", "a+b", "a%20b", "a%b", "é/ü", "日本", "a=b&c", "q?x#y", "sp ace/d=2026-01-01 00%3A00", "'\"`$(x)",
		"a:b", "~tilde", "x,y;z", "(p)[q]{r}", "*star*", "a@b", "!", strings.Repeat("n", 200), strings.Repeat("d/", 100) + "f",
	}
	for _, k := range keys {
		must(t, s.PutIfAbsent(t.Context(), k, []byte(k)))
	}
	for _, k := range keys {
		wantContent(t, s, k, []byte(k))
		o, err := s.Stat(t.Context(), k)
		must(t, err)
		if o.Key != k {
			t.Errorf("stat of %q is of %q", k, o.Key)
		}
		wantIs(t, s.PutIfAbsent(t.Context(), k, []byte("x")), fs.ErrExist)
	}
	sorted := slices.Clone(keys)
	slices.Sort(sorted)
	wantKeys(t, s, "", "", sorted...)
	for _, k := range keys {
		must(t, s.Delete(t.Context(), k))
	}
	wantKeys(t, s, "", "")
}

func testBadKeys(t *testing.T, s objstore.Store) {
	// What others may have written can be asked for; whether a store has it is its own business.
	for _, k := range []string{`a\b`, strings.Repeat("n", 256)} {
		for _, err := range []error{s.Put(t.Context(), k, nil), s.PutIfAbsent(t.Context(), k, nil), s.Delete(t.Context(), k)} {
			wantIs(t, err, objstore.ErrInvalidKey)
		}
		if _, err := s.Get(t.Context(), k); err == nil || errors.Is(err, objstore.ErrInvalidKey) {
			t.Errorf("get of %q: %v", k, err)
		}
		if _, err := s.Stat(t.Context(), k); err == nil || errors.Is(err, objstore.ErrInvalidKey) {
			t.Errorf("stat of %q: %v", k, err)
		}
	}
	for _, k := range []string{"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", "a\x00b", strings.Repeat("d/", 600) + "f"} {
		_, gerr := s.Get(t.Context(), k)
		_, serr := s.Stat(t.Context(), k)
		for _, err := range []error{gerr, serr, s.Put(t.Context(), k, nil), s.PutIfAbsent(t.Context(), k, nil), s.Delete(t.Context(), k)} {
			wantIs(t, err, objstore.ErrInvalidKey)
			if objstore.Retryable(err) {
				t.Errorf("%q: retryable", k)
			}
		}
	}
}

func testCancelled(t *testing.T, s objstore.Store) {
	must(t, s.Put(t.Context(), "k", []byte("x")))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, gerr := s.Get(ctx, "k")
	_, serr := s.Stat(ctx, "k")
	errs := []error{gerr, serr, s.Put(ctx, "k", nil), s.PutIfAbsent(ctx, "k2", nil), s.Delete(ctx, "k")}
	var lerr error
	for _, err := range s.List(ctx, "", "") {
		lerr = err
	}
	for _, err := range append(errs, lerr) {
		wantIs(t, err, context.Canceled)
		if objstore.Retryable(err) {
			t.Errorf("retryable: %v", err)
		}
	}
	wantContent(t, s, "k", []byte("x"))

	// Half a listing must not look like a whole one.
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	must(t, s.Put(t.Context(), "l", []byte("x")))
	lerr = nil
	for _, err := range s.List(ctx, "", "") {
		cancel()
		lerr = err
	}
	if lerr != nil {
		wantIs(t, lerr, context.Canceled)
	} else {
		t.Error("a listing cancelled half-way ended without an error")
	}
}

func testPrefix(t *testing.T, s objstore.Store) {
	p := objstore.WithPrefix(s, "/w/h/")
	must(t, p.Put(t.Context(), "a/k", []byte("1")))
	must(t, s.Put(t.Context(), "w/hx", []byte("outside")))
	wantContent(t, s, "w/h/a/k", []byte("1"))
	wantContent(t, p, "a/k", []byte("1"))
	wantKeys(t, p, "", "", "a/k")
	wantKeys(t, p, "a/", "a/j", "a/k")
	wantKeys(t, p, "a/", "a/k")
	o, err := p.Stat(t.Context(), "a/k")
	must(t, err)
	if o.Key != "a/k" {
		t.Errorf("stat gives key %q", o.Key)
	}
	wantIs(t, p.PutIfAbsent(t.Context(), "a/k", nil), fs.ErrExist)
	must(t, p.Delete(t.Context(), "a/k"))
	wantKeys(t, p, "", "")
	for _, k := range []string{"", "/x", "../hx"} {
		_, err := p.Get(t.Context(), k)
		wantIs(t, err, objstore.ErrInvalidKey)
	}
}

func testProbe(t *testing.T, s objstore.Store) {
	must(t, objstore.Probe(t.Context(), s, "warehouse"))
	must(t, objstore.Probe(t.Context(), s, ""))
	wantKeys(t, s, "", "")
}

func testConcurrent(t *testing.T, s objstore.Store) {
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 15 {
				key := fmt.Sprintf("w%d/%d", w, i)
				data := noise(1000*w + i)
				if err := s.Put(t.Context(), key, data); err != nil {
					t.Error(err)
					return
				}
				got, err := s.Get(t.Context(), key)
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("%s: read back %d bytes, %v", key, len(got), err)
					return
				}
				if i%3 == 0 {
					if err := s.Delete(t.Context(), key); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	if n := len(Keys(t, s, "w", "")); n != 8*10 {
		t.Errorf("%d objects left, want 80", n)
	}
}
