// SPDX-License-Identifier: Apache-2.0

package main

// recordTrace is the subcommand record: a trace that is recorded, without the screen and
// without a line for each tick.
func recordTrace(o *options, args []string) error {
	if len(args) > 0 {
		return usagef("herdtrace record takes no %q (to trace a command: herdtrace record -o FILE -- COMMAND)", args[0])
	}
	if o.output == "" {
		return usagef("herdtrace record needs a file: herdtrace record -o FILE")
	}
	o.quiet = true
	return trace(o)
}

// reportFile is the subcommand: the summary of a recording, and what the flags ask
// for, as files.
func reportFile(o *options, args []string) error {
	if len(args) == 2 && o.json == "-" {
		return usagef("herdtrace report: name the file of --json after an equals sign: --json=FILE")
	}
	if len(args) != 1 {
		return usagef("herdtrace report takes one recording: herdtrace report FILE")
	}
	o.batch, o.summaryOnly = true, true
	return replayFile(o, "report", args[0])
}
