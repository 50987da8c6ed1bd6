// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package main

import (
	"errors"
	"runtime"
)

var errNotLinux error = exitError{exitHost, errors.New("tracing needs Linux, this is " + runtime.GOOS + " (herdtrace replay works here)")}

func trace(*options) error { return errNotLinux }

func check(*options, []string) error { return errNotLinux }
