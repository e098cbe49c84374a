// Package races runs everything that changes or reads one table at the same time, on a
// real MinIO: appends, compaction, checkpoints, clean-up, vacuum with the shortest
// retention, readers of the newest and of recent versions. Then it does the same with
// maintenance in a process that is killed at each of its steps.
//
// The tests print their seed; TIDEMILL_RACES_SEED repeats its choices and TIDEMILL_RACES
// says for how long they run (30s; minutes find more).
package races
