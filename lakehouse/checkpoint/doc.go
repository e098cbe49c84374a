// Package checkpoint turns a Delta table's state into a checkpoint file and back.
package checkpoint
