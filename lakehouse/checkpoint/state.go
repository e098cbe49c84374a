package checkpoint

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/bits"
)

// State is what a checkpoint says about itself, for its reader to check.
type State struct {
	Version int64  `json:"version"` // of the table
	Files   int64  `json:"files"`   // live files: add actions
	Bytes   int64  `json:"bytes"`   // their sizes' sum
	Txns    int64  `json:"txns"`
	Digest  string `json:"digest"` // [Digest.String] of the live files and the txns
}

// Digest is a fingerprint of a table's live files (path and size) and of its txns
// (application and version), whatever their order. It is the sum, modulo 2^128, of one
// hash for each, so it is kept up to date by adding and removing single ones. It finds
// accidents, not attacks. The zero value is that of an empty table.
//
// A hash is the first 16 bytes of the SHA-256 of: 'f' or 't', the name's length (8
// bytes), the name, the size or the version (8 bytes); integers and the sum are little-endian.
type Digest struct{ lo, hi uint64 }

// AddFile takes a live file in. path is as it stands in the log, size is in bytes.
func (d *Digest) AddFile(path string, size int64) { d.plus(item('f', path, size)) }

// RemoveFile takes out what AddFile took in.
func (d *Digest) RemoveFile(path string, size int64) { d.minus(item('f', path, size)) }

// AddTxn takes an application's version in.
func (d *Digest) AddTxn(app string, version int64) { d.plus(item('t', app, version)) }

// RemoveTxn takes out what AddTxn took in.
func (d *Digest) RemoveTxn(app string, version int64) { d.minus(item('t', app, version)) }

// String returns 32 hexadecimal digits.
func (d Digest) String() string {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:8], d.lo)
	binary.LittleEndian.PutUint64(b[8:], d.hi)
	return hex.EncodeToString(b[:])
}

func (d *Digest) plus(o Digest) {
	var carry uint64
	d.lo, carry = bits.Add64(d.lo, o.lo, 0)
	d.hi, _ = bits.Add64(d.hi, o.hi, carry)
}

func (d *Digest) minus(o Digest) {
	var borrow uint64
	d.lo, borrow = bits.Sub64(d.lo, o.lo, 0)
	d.hi, _ = bits.Sub64(d.hi, o.hi, borrow)
}

func item(kind byte, name string, n int64) Digest {
	var room [256]byte
	b := append(room[:0], kind)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(name)))
	b = append(b, name...)
	b = binary.LittleEndian.AppendUint64(b, uint64(n))
	sum := sha256.Sum256(b)
	return Digest{binary.LittleEndian.Uint64(sum[:8]), binary.LittleEndian.Uint64(sum[8:16])}
}

// tally counts what a State says.
type tally struct {
	files, bytes, txns int64
	digest             Digest
}

func (t *tally) add(path string, size int64) {
	t.files++
	t.bytes += size
	t.digest.AddFile(path, size)
}

func (t *tally) txn(app string, version int64) {
	t.txns++
	t.digest.AddTxn(app, version)
}

// check compares what a State says with what was seen; files and txns say what of it was looked at.
func (t *tally) check(s State, files, txns bool) error {
	switch {
	case files && t.files != s.Files:
		return fmt.Errorf("its state says %d live files, it has %d", s.Files, t.files)
	case files && t.bytes != s.Bytes:
		return fmt.Errorf("its state says %d bytes in live files, they have %d", s.Bytes, t.bytes)
	case txns && t.txns != s.Txns:
		return fmt.Errorf("its state says %d txns, it has %d", s.Txns, t.txns)
	case files && txns && t.digest.String() != s.Digest:
		return fmt.Errorf("its state says digest %s, its files and txns have %s", s.Digest, t.digest)
	}
	return nil
}
