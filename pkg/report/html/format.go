// SPDX-License-Identifier: Apache-2.0

package html

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/herdtrace/herdtrace/pkg/report/model"
)

const (
	// none stands where a value is not applicable or not known yet, unmeasured
	// where its signal is not measured.
	none       = "-"
	unmeasured = "?"
	// mostName and mostText bound, in characters, what is shown of a name and of a
	// sentence: a recording may hold longer ones.
	mostName = 120
	mostText = 1600
)

// clip is a printable text of at most so many characters: the end of a name says
// most, so the middle is left out.
func clip(s string, most int) string {
	if len(s) > 8*most { // of what nobody made by hand, no more than that is looked at
		s = s[:4*most] + s[len(s)-4*most:]
	}
	s = model.Printable(s)
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return model.WithoutMiddle(s, most)
}

// num is a count or rate in three digits: "12.4", "18.5k", "-" where it is not known.
func num(v float64) string {
	switch {
	case math.IsInf(v, 0):
		return "inf"
	case model.Known(v) && v > 0 && v < 0.05:
		return "<0.1"
	case v >= 999.5e6:
		return fmt.Sprintf("%.1e", v)
	}
	return model.Num(v)
}

func count(n uint64) string { return strconv.FormatUint(n, 10) }

// counted is n, or that it is not measured.
func counted(n uint64, measured bool) string {
	if !measured {
		return unmeasured
	}
	return count(n)
}

func percent(v float64) string {
	switch {
	case !model.Known(v) || math.IsInf(v, 0):
		return none
	case v > 0 && v < 0.0005:
		return "<0.1%"
	case v > 0 && v < 0.0995:
		return fmt.Sprintf("%.1f%%", 100*v)
	}
	return fmt.Sprintf("%.0f%%", 100*v)
}

func cores(v float64) string {
	if model.Known(v) && v < 9.995 {
		return fmt.Sprintf("%.2f", v)
	}
	return num(v)
}

// span is a time in ns as a person would say it: "20 us", "62 ms", "18.6 s".
func span(ns float64) string {
	switch ms := ns / 1e6; {
	case !model.Known(ns):
		return none
	case math.IsInf(ns, 0):
		return "for ever"
	case ns == 0:
		return "0 s"
	case ms < 0.9995:
		return fmt.Sprintf("%.0f us", ms*1e3)
	case ms < 9.95:
		return fmt.Sprintf("%.1f ms", ms)
	case ms < 999.5:
		return fmt.Sprintf("%.0f ms", ms)
	case ms < 1e8:
		return fmt.Sprintf("%.1f s", ms/1e3)
	}
	return fmt.Sprintf("%.0f h", ns/3600e9)
}

// clock is a time since the first Sample: "1:42", "0:00.5" with the fraction that
// a short axis needs, "2:05:10".
func clock(d time.Duration, fine bool) string {
	s := int64(d / time.Second)
	out := fmt.Sprintf("%d:%02d", s/60, s%60)
	if s >= 3600 {
		out = fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	if fine {
		out += fmt.Sprintf(".%d", d%time.Second/(100*time.Millisecond))
	}
	return out
}

// utc is a wall-clock time. A recording may claim one that has no such year.
func utc(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// about marks an estimate.
func about(text string, estimated bool) string {
	if !estimated || text == none || text == unmeasured {
		return text
	}
	return "~" + text
}

// coord is a coordinate with one decimal at most.
func coord(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		v = 0
	}
	s := strconv.FormatFloat(v, 'f', 1, 64)
	s = strings.TrimSuffix(s, ".0")
	if s == "-0" {
		return "0"
	}
	return s
}
