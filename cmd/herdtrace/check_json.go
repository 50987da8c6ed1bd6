// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/herdtrace/herdtrace/pkg/tracer"
)

// variantRecord is one line of check --json.
type variantRecord struct {
	V    int    `json:"v"`
	Type string `json:"type"`
	tracer.Attachment
}

// checkJSON is check for machines: one line for each variant of each signal,
// also for those that herdtrace would not take.
func checkJSON(o *options) error {
	var out io.Writer = os.Stdout
	if o.json != "-" {
		f, err := os.Create(o.json)
		if err != nil {
			return fmt.Errorf("write JSON: %w", err)
		}
		defer f.Close()
		out = f
	}
	all, err := tracer.Attachments(o.variants)
	if errors.Is(err, tracer.ErrHost) {
		return exitError{exitHost, err}
	}
	if err != nil {
		return err
	}
	works := make(map[string]bool)
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	for _, a := range all {
		works[a.Signal] = works[a.Signal] || a.Error == ""
		if err := e.Encode(variantRecord{V: 1, Type: "variant", Attachment: a}); err != nil {
			return fmt.Errorf("write JSON: %w", err)
		}
	}
	for _, ok := range works {
		if !ok {
			return exitError{code: exitHost}
		}
	}
	return nil
}
