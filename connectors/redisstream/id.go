package redisstream

import (
	"strconv"
	"strings"
)

// seqBits is how many bits of an offset are the number within a millisecond: a
// million entries. The other 43 are the time, until the year 2248.
const seqBits = 20

// offsetOf packs an entry id, "ms-seq", into an offset that has its order. Ids that
// do not fit, which only their sender can have made up, are refused.
func offsetOf(id string) (int64, bool) {
	a, b, ok := strings.Cut(id, "-")
	if !ok {
		return 0, false
	}
	ms, err := strconv.ParseUint(a, 10, 63-seqBits)
	if err != nil {
		return 0, false
	}
	seq, err := strconv.ParseUint(b, 10, seqBits)
	if err != nil {
		return 0, false
	}
	return int64(ms)<<seqBits | int64(seq), true
}

// idOf is the entry id of an offset.
func idOf(offset int64) string {
	return strconv.FormatInt(offset>>seqBits, 10) + "-" + strconv.FormatInt(offset&(1<<seqBits-1), 10)
}
