// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"math"
	"strings"
	"testing"
)

// about is a lookup in which conns.total is from 100 to 200, runq.wait_p99_ms 20,
// accept.eagain_ratio 0.5, findings.crit_total 0, findings.total 1, and the rest is not known.
func about(name string) value {
	switch name {
	case "conns.total":
		return value{100, 200, 150, "", "about"}
	case "runq.wait_p99_ms":
		return exactly(20, "")
	case "accept.eagain_ratio":
		return exactly(0.5, "")
	case "findings.crit_total":
		return exactly(0, "")
	case "findings.total":
		return exactly(1, "")
	}
	return nothing("not known")
}

func TestExpressions(t *testing.T) {
	for text, want := range map[string]truth{
		"runq.wait_p99_ms > 20":       no,
		"runq.wait_p99_ms >= 20":      yes,
		"runq.wait_p99_ms>=20ms":      yes,
		"runq.wait_p99_ms > 0.01s":    yes,
		"runq.wait_p99_ms < 21000us":  yes,
		"runq.wait_p99_ms <= 2e1":     yes,
		"runq.wait_p99_ms == 20":      yes,
		"runq.wait_p99_ms != 20":      no,
		"runq.wait_p99_ms > -1":       yes,
		"runq.wait_p99_ms > 1e-3":     yes,
		"accept.eagain_ratio >= 50%":  yes,
		"accept.eagain_ratio > 0.5":   no,
		"accept.eagain_ratio > 49.9%": yes,

		"conns.total > 99":                                 yes,
		"conns.total >= 100":                               yes,
		"conns.total > 100":                                unknown,
		"conns.total < 0.2k":                               unknown,
		"conns.total <= 200":                               yes,
		"conns.total < 1M":                                 yes,
		"conns.total > 200":                                no,
		"conns.total == 150":                               unknown,
		"conns.total == 201":                               no,
		"conns.total != 201":                               yes,
		"conns.total != 150":                               unknown,
		"herd.wakeups_total > 1":                           unknown,
		"herd.wakeups_total > 1 or runq.wait_p99_ms > 1":   yes,
		"herd.wakeups_total > 1 || runq.wait_p99_ms > 100": unknown,
		"herd.wakeups_total > 1 and runq.wait_p99_ms > 1":  unknown,
		"herd.wakeups_total > 1 && runq.wait_p99_ms > 100": no,
		// and binds more than or.
		"runq.wait_p99_ms > 1 or runq.wait_p99_ms > 1 and runq.wait_p99_ms > 100":   yes,
		"(runq.wait_p99_ms > 1 or runq.wait_p99_ms > 1) and runq.wait_p99_ms > 100": no,
		"((warn))": yes, "crit": no, "crit OR warn": yes, "crit and warn": no,
		"crit or runq.wait_p99_ms > 1": yes,
	} {
		e, err := parse(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, seen := e.eval(about, nil); got != want || len(seen) == 0 {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
}

func TestExpressionErrors(t *testing.T) {
	for text, want := range map[string]string{
		"":                             "at the end: a metric's name, crit or warn is wanted there",
		"   ":                          "at the end",
		"conns.total":                  "at the end: one of > >= < <= == != is wanted after conns.total",
		"conns.total >":                "at the end: a number is wanted there",
		"conns.total > many":           `"many" at column 15: a number is wanted there`,
		"conns.total = 3":              `"=" at column 13: one of`,
		"conns.total => 3":             `"=>" at column 13`,
		"conns.total > 3 4":            `"4" at column 17: it needs and, or, or to end there`,
		"conns.total > 3 or":           "at the end: a metric's name",
		"conns.total > 3 and or crit":  `there is no metric "or"`,
		"(conns.total > 3":             "at the end: the parenthesis of column 1 is not closed",
		"conns.total > 3)":             `")" at column 16`,
		"herd.wakeups > 2":             `there is no metric "herd.wakeups", there is herd.wakeups_per_accept, herd.wakeups_total`,
		"foo > 2":                      `there is no metric "foo" (herdtrace metrics lists them)`,
		"conns.total > 3ms":            `"3ms" at column 15: "ms" is no unit of a metric in numbers`,
		"runq.wait_p99_ms > 3%":        `"%" is no unit of a metric in ms`,
		"conns.total > 1.2.3":          "a number is wanted there",
		"conns.total > 1e999":          "a number is wanted there",
		"conns.total > -":              "a number is wanted there",
		"conns.total > 0x10":           `"x" is no unit`,
		"conns.total > 3; rm":          `';' at column 16: no sign of an expression`,
		"conns.total > 3\nor crit":     `'\n' at column 16`,
		"crit > 3":                     `">" at column 6`,
		"工人 > 3":                       `'工' at column 1`,
		strings.Repeat("(", 100):       "parentheses deeper than 64",
		strings.Repeat(" ", maxExpr+1): "longer than 4096 bytes",
	} {
		e, err := parse(text)
		if err == nil || e != nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %q", text, err, want)
		}
	}
}

func TestPrint(t *testing.T) {
	for _, tt := range []struct {
		u    unit
		v    float64
		want string
	}{
		{inCount, 3, "3"}, {inCount, 3.7634, "3.76"}, {inCount, 1234567, "1234567"}, {inCount, 0.0123, "0.012"},
		{inRatio, 0.5, "50%"}, {inRatio, 0.1234, "12.34%"}, {inMS, 16.777216, "16.78 ms"}, {inMS, 1234.5, "1234 ms"},
		{inSeconds, math.Inf(1), "without end"},
	} {
		if got := tt.u.print(tt.v); got != tt.want {
			t.Errorf("%v: %q, want %q", tt.v, got, tt.want)
		}
	}
}

func TestReadThresholds(t *testing.T) {
	got, err := ReadThresholds(strings.NewReader("# limits\n\n  crit   # no outage\nconns.total < 1000\n"))
	if err != nil || strings.Join(got, "|") != "crit|conns.total < 1000" {
		t.Errorf("%q, %v", got, err)
	}
	for text, want := range map[string]string{
		"": "no condition", "# nothing\n": "no condition", "crit\n\nfoo > 1": `line 3: there is no metric "foo"`,
		strings.Repeat("x", 1<<20): "token too long", strings.Repeat("crit\n", 2000): "line 1001: more than 1000",
	} {
		if _, err := ReadThresholds(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v, want %q", text, err, want)
		}
	}
}

// FuzzExpression: whatever is written, it is an error or an expression that has a
// truth, and what is known less well never turns yes into no.
func FuzzExpression(f *testing.F) {
	for _, s := range []string{"crit", "conns.total > 3 and (runq.wait_p99_ms >= 2e1ms or accept.eagain_ratio != 50%)", "((", "x>", "conns.total>-1e-5k", "warn||crit&&warn"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := parse(text)
		if (err == nil) == (e == nil) {
			t.Fatalf("%q: %v, error %v", text, e, err)
		}
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Fatalf("%q: %q", text, err)
			}
			return
		}
		vague, _ := e.eval(func(string) value { return nothing("") }, nil)
		if between, seen := e.eval(about, nil); between != unknown && vague != unknown && between != vague || len(seen) == 0 {
			t.Fatalf("%q: %v, and %v where nothing is known", text, between, vague)
		}
	})
}
