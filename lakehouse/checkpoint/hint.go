package checkpoint

import (
	"encoding/json"
	"fmt"
)

// Hint is the object _last_checkpoint: where a reader may begin. It may be old, or
// missing; a listing of the log is what counts.
type Hint struct {
	Version       int64  `json:"version"`
	Size          int64  `json:"size"`            // actions in the checkpoint
	Parts         *int64 `json:"parts,omitempty"` // of a checkpoint in several files
	SizeInBytes   *int64 `json:"sizeInBytes,omitempty"`
	NumOfAddFiles *int64 `json:"numOfAddFiles,omitempty"`
}

// EncodeHint returns the object's bytes.
func EncodeHint(h Hint) []byte {
	b, _ := json.Marshal(h) //nolint:errchkjson // numbers cannot fail
	return b
}

// DecodeHint reads a hint of any writer; fields it does not know are ignored.
func DecodeHint(data []byte) (Hint, error) {
	var h struct {
		Hint
		Version *int64 `json:"version"`
	}
	switch err := json.Unmarshal(data, &h); {
	case err != nil:
		return Hint{}, fmt.Errorf("decode _last_checkpoint: %w", err)
	case h.Version == nil || *h.Version < 0:
		return Hint{}, fmt.Errorf("decode _last_checkpoint: it names no version")
	case h.Parts != nil && *h.Parts < 1:
		return Hint{}, fmt.Errorf("decode _last_checkpoint: %d parts", *h.Parts)
	}
	h.Hint.Version = *h.Version
	return h.Hint, nil
}
