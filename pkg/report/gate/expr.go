// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"fmt"
	"strconv"
	"strings"
)

// An expression says what must not be true:
//
//	or      = and { ("or" | "||") and } .
//	and     = operand { ("and" | "&&") operand } .
//	operand = "(" or ")" | "crit" | "warn" | metric op number [ unit ] .
//	op      = ">" | ">=" | "<" | "<=" | "==" | "!=" .
//	unit    = "%" | "us" | "ms" | "s" | "k" | "M" .
type expr interface {
	// eval appends the comparisons that it made to seen.
	eval(values lookup, seen []seen) (truth, []seen)
}

// lookup is what is known of a metric.
type lookup func(name string) value

// seen is a comparison that was made.
type seen struct {
	*comparison
	value value
	truth truth
}

type binary struct {
	or          bool
	left, right expr
}

type comparison struct {
	metric string
	op     string
	number float64 // in the metric's unit
	word   string  // crit or warn, where it was written so
}

const (
	maxExpr  = 4096 // bytes
	maxDepth = 64
)

// parse reads an expression over the metrics of the table.
func parse(text string) (expr, error) {
	if len(text) > maxExpr {
		return nil, fmt.Errorf("longer than %d bytes", maxExpr)
	}
	tokens, err := lex(text)
	if err != nil {
		return nil, err
	}
	p := &parser{tokens: tokens}
	e, err := p.or(0)
	if err != nil {
		return nil, err
	}
	if t := p.peek(); t.text != "" {
		return nil, fmt.Errorf("%q at column %d: it needs and, or, or to end there", t.text, t.column)
	}
	return e, nil
}

type token struct {
	text   string // "" is the end
	column int
}

// lex cuts text into words, numbers with their units, and signs.
func lex(text string) ([]token, error) {
	var out []token
	for i := 0; i < len(text); {
		n := 0
		switch c := text[i]; {
		case c == ' ' || c == '\t':
			i++
			continue
		case isLetter(c):
			n = span(text[i:], func(c byte) bool { return isLetter(c) || isDigit(c) || strings.IndexByte("._-", c) >= 0 })
		case isDigit(c) || c == '-':
			n = numberLen(text[i:])
		case strings.IndexByte("()", c) >= 0:
			n = 1
		case strings.IndexByte("<>=!&|", c) >= 0:
			n = span(text[i:], func(c byte) bool { return strings.IndexByte("<>=!&|", c) >= 0 })
		default:
			return nil, fmt.Errorf("%q at column %d: no sign of an expression", []rune(text[i:])[0], i+1)
		}
		out = append(out, token{text[i : i+n], i + 1})
		i += n
	}
	return append(out, token{column: len(text) + 1}), nil
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func span(s string, ok func(byte) bool) int {
	n := 0
	for n < len(s) && ok(s[n]) {
		n++
	}
	return n
}

// numberLen is the length of a number and its unit: -1.5e3ms.
func numberLen(s string) int {
	n := span(s, func(c byte) bool { return isDigit(c) || c == '.' || c == '-' })
	if n+1 < len(s) && (s[n] == 'e' || s[n] == 'E') && (isDigit(s[n+1]) || s[n+1] == '-') {
		n += 2 + span(s[n+2:], isDigit)
	}
	return n + span(s[n:], func(c byte) bool { return isLetter(c) || c == '%' })
}

type parser struct {
	tokens []token
	at     int
}

func (p *parser) peek() token { return p.tokens[p.at] }

func (p *parser) next() token {
	t := p.tokens[p.at]
	if t.text != "" {
		p.at++
	}
	return t
}

func (p *parser) or(depth int) (expr, error) {
	return p.chain(depth, true, func() (expr, error) { return p.chain(depth, false, func() (expr, error) { return p.operand(depth) }) })
}

// chain reads what "or", or "and", joins.
func (p *parser) chain(depth int, or bool, part func() (expr, error)) (expr, error) {
	words := [2]string{"and", "&&"}
	if or {
		words = [2]string{"or", "||"}
	}
	left, err := part()
	for err == nil && (strings.EqualFold(p.peek().text, words[0]) || p.peek().text == words[1]) {
		p.next()
		var right expr
		right, err = part()
		left = &binary{or, left, right}
	}
	return left, err
}

func (p *parser) operand(depth int) (expr, error) {
	switch t := p.next(); {
	case depth > maxDepth:
		return nil, fmt.Errorf("parentheses deeper than %d", maxDepth)
	case t.text == "(":
		e, err := p.or(depth + 1)
		if err != nil {
			return nil, err
		}
		if c := p.next(); c.text != ")" {
			return nil, fmt.Errorf("%s: the parenthesis of column %d is not closed", c.where(), t.column)
		}
		return e, nil
	case t.text == "crit":
		return &comparison{"findings.crit_total", ">", 0, t.text}, nil
	case t.text == "warn":
		return &comparison{"findings.total", ">", 0, t.text}, nil
	case t.text == "" || !isLetter(t.text[0]):
		return nil, fmt.Errorf("%s: a metric's name, crit or warn is wanted there", t.where())
	default:
		return p.comparison(t)
	}
}

func (t token) where() string {
	if t.text == "" {
		return "at the end"
	}
	return fmt.Sprintf("%q at column %d", t.text, t.column)
}

func (p *parser) comparison(name token) (expr, error) {
	m := metricNamed(name.text)
	if m == nil {
		return nil, fmt.Errorf("there is no metric %q%s (herdtrace metrics lists them)", name.text, similar(name.text))
	}
	op := p.next()
	switch op.text {
	case ">", ">=", "<", "<=", "==", "!=":
	default:
		return nil, fmt.Errorf("%s: one of > >= < <= == != is wanted after %s", op.where(), name.text)
	}
	t := p.next()
	n, err := number(t, m.unit)
	if err != nil {
		return nil, err
	}
	return &comparison{m.Name, op.text, n, ""}, nil
}

// number reads a number in the unit of a metric.
func number(t token, of unit) (float64, error) {
	digits := len(t.text) - span(reversed(t.text), func(c byte) bool { return isLetter(c) || c == '%' })
	v, err := strconv.ParseFloat(t.text[:digits], 64)
	if err != nil {
		return 0, fmt.Errorf("%s: a number is wanted there", t.where())
	}
	suffix := t.text[digits:]
	if suffix == "" {
		return v, nil
	}
	factor, ok := of.suffixes[suffix]
	if !ok {
		return 0, fmt.Errorf("%s: %q is no unit of a metric in %s", t.where(), suffix, of.name)
	}
	return v * factor, nil
}

func reversed(s string) string {
	b := []byte(s)
	for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
	return string(b)
}
