// SPDX-License-Identifier: Apache-2.0

package live

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// none stands where a value is not applicable or not known.
const none = "-"

// maxName bounds, in bytes, what is looked at of a name or sentence: the kernel
// has none that are longer, but a recording may.
const maxName = 4096

// safe makes a text that somebody else chose fit for a terminal.
func safe(s string) string {
	return model.Printable(s[:min(len(s), maxName)])
}

// count is v with an SI prefix, in at most 5 columns up to 10^15.
func count(v float64) string {
	if !model.Known(v) || math.IsInf(v, 0) {
		return none
	}
	if v < 0.05 {
		return "0"
	}
	if v < 9.95 && v != math.Trunc(v) {
		return fmt.Sprintf("%.1f", v)
	}
	if v < 999.5 {
		return fmt.Sprintf("%.0f", v)
	}
	for _, unit := range "kMGT" {
		v /= 1000
		if v < 99.95 {
			return fmt.Sprintf("%.1f%c", v, unit)
		}
		if v < 999.5 {
			return fmt.Sprintf("%.0f%c", v, unit)
		}
	}
	return fmt.Sprintf("%.0e", v*1e12)
}

// perSecond is the rate v with its unit.
func perSecond(v float64) string {
	if s := count(v); s != none {
		return s + "/s"
	}
	return none
}

// factor is a ratio of counts: 12.4.
func factor(v float64) string {
	if !model.Known(v) || math.IsInf(v, 0) {
		return none
	}
	if v < 99.95 {
		return fmt.Sprintf("%.1f", v)
	}
	return count(v)
}

// percent is the ratio v in hundredths, of what the column says.
func percent(v float64) string {
	if !model.Known(v) || math.IsInf(v, 0) {
		return none
	}
	return fmt.Sprintf("%.0f%%", v*100)
}

// leastPercent is the least ratio that percentFine gives a number.
const leastPercent = 0.0005

// percentFine is percent for what is small and matters all the same.
func percentFine(v float64) string {
	switch {
	case !model.Known(v) || math.IsInf(v, 0):
		return none
	case v == 0:
		return "0%"
	case v < leastPercent:
		return "<0.1%"
	case v < 0.0995:
		return fmt.Sprintf("%.1f%%", v*100)
	}
	return percent(v)
}

// seconds is a time in the unit that suits it: 65us, 2.1ms, 130ms, 3.2s, 7m05s.
func seconds(v float64) string {
	switch {
	case !model.Known(v):
		return none
	case math.IsInf(v, 0):
		return "inf"
	case v == 0:
		return "0"
	case v < 0.9995e-3:
		return fmt.Sprintf("%.0fus", v*1e6)
	case v < 0.00995:
		return fmt.Sprintf("%.1fms", v*1e3)
	case v < 0.9995:
		return fmt.Sprintf("%.0fms", v*1e3)
	}
	switch {
	case v < 120 || v > 1e9:
		return factor(v) + "s"
	case v < 7200:
		return fmt.Sprintf("%dm%02ds", int(v)/60, int(v)%60)
	}
	return fmt.Sprintf("%dh%02dm", int(v)/3600, int(v)/60%60)
}

// nanoseconds is seconds of a time in ns.
func nanoseconds(v float64) string { return seconds(v / 1e9) }

// cores is a number of cores: 0.04, 1.90, 12.3.
func cores(v float64) string {
	if model.Known(v) && v < 9.995 {
		return fmt.Sprintf("%.2f", v)
	}
	return factor(v)
}

// cpuList is a list of cores as the kernel writes it: 0-3,8.
func cpuList(cpus []int) string {
	var out []string
	for i := 0; i < len(cpus); {
		from := i
		for i++; i < len(cpus) && cpus[i] == cpus[i-1]+1; i++ {
		}
		text := strconv.Itoa(cpus[from])
		if i-from > 1 {
			text += "-" + strconv.Itoa(cpus[i-1])
		}
		out = append(out, text)
	}
	return strings.Join(out, ",")
}

// clock is d as HH:MM:SS.
func clock(d time.Duration) string {
	s := int64(max(d, 0).Seconds())
	return fmt.Sprintf("%02d:%02d:%02d", s/3600, s/60%60, s%60)
}

// span is d as a person would say it: "42 s", "3 min 10 s", "2 h 5 min".
func span(d time.Duration) string {
	s := int64(max(d, 0).Round(time.Second).Seconds())
	switch {
	case s < 120:
		return fmt.Sprintf("%d s", s)
	case s < 7200:
		return fmt.Sprintf("%d min %d s", s/60, s%60)
	}
	return fmt.Sprintf("%d h %d min", s/3600, s/60%60)
}

// every is the sampling interval: "1 s", "100 ms".
func every(ns uint64) string {
	d := time.Duration(min(ns, math.MaxInt64))
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%d us", d.Microseconds())
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%g s", math.Round(d.Seconds()*10)/10)
	case d < 2*time.Hour:
		return fmt.Sprintf("%g min", math.Round(d.Minutes()*10)/10)
	}
	return fmt.Sprintf("%.0f h", d.Hours())
}
