// SPDX-License-Identifier: Apache-2.0

package model

import "fmt"

// Num prints a count or a rate in three digits at the most, with an SI prefix
// where it needs one, and "-" where it is not known.
func Num(v float64) string {
	switch {
	case !Known(v):
		return "-"
	case v >= 999.5e3:
		return fmt.Sprintf("%.1fM", v/1e6)
	case v >= 9950:
		return fmt.Sprintf("%.0fk", v/1e3)
	case v >= 999.5:
		return fmt.Sprintf("%.1fk", v/1e3)
	case v >= 9.95 || v == 0:
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.1f", v)
}

// Plural is "1 listener", "3 listeners".
func Plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
