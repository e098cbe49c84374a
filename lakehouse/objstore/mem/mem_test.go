package mem_test

import (
	"testing"

	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
	"github.com/tidemill/tidemill/lakehouse/objstore/storetest"
)

func TestConformance(t *testing.T) {
	storetest.Run(t, func(*testing.T) objstore.Store { return mem.New() })
}
