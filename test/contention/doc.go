// Package contention holds the test of many processes that commit to one table at the
// same time, for thousands of versions: on MinIO, on the embedded store, and through a
// network that loses answers. Every row must be in the table once, the log without a
// hole, and no writer left behind.
//
// There is only test code here. The writers are this test's own binary, started again.
// What they cost is measured in test/bench/lakehouse.
package contention
