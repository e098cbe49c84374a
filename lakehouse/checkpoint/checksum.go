package checkpoint

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sumPosition returns where the checksum stands in one of our files.
func sumPosition(file []byte) (int, error) {
	// In the footer, key and value stand one after the other, with a field's header and the length (both a byte) between.
	at := bytes.LastIndex(file, []byte(sumKey)) + len(sumKey) + 2
	if at < len(sumKey)+2 || at+len(noSum) > len(file) {
		return 0, errors.New("no place for the checksum")
	}
	return at, nil
}

// checksum returns the checksum of a file as if noSum stood at a position.
func checksum(file []byte, at int) string {
	sum := crc32.Checksum(file[:at], castagnoli)
	sum = crc32.Update(sum, castagnoli, []byte(noSum))
	sum = crc32.Update(sum, castagnoli, file[at+len(noSum):])
	return fmt.Sprintf("%08x", sum)
}
