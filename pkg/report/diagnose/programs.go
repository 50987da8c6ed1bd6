// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/herdtrace/herdtrace/pkg/report/model"
)

// knobs are what a user can set without touching code; LEN and NUM stand for a
// number: of connections that wait, and of workers at the most.
type knobs struct{ backlog, workers, fewer string }

// programKnobs is by the program's name without a version at its end.
var programKnobs = map[string]knobs{
	"gunicorn":     {"gunicorn --backlog LEN", "gunicorn --workers", "gunicorn --workers NUM"},
	"nginx":        {"listen ... backlog=LEN in nginx.conf", "worker_processes auto", "worker_processes NUM in nginx.conf"},
	"java":         {"acceptCount=LEN at Tomcat's Connector (elsewhere the backlog of the ServerSocket)", "maxConnections and maxThreads", "-XX:ActiveProcessorCount=NUM"},
	"node":         {"server.listen({port, backlog: LEN})", "node:cluster", "NUM workers of node:cluster, UV_THREADPOOL_SIZE=NUM"},
	"php-fpm":      {"listen.backlog = LEN in the pool's configuration", "pm.max_children", "pm.max_children = NUM"},
	"uwsgi":        {"uwsgi --listen LEN", "uwsgi --processes", "uwsgi --processes NUM"},
	"python":       {"request_queue_size = LEN (socketserver) or backlog=LEN (asyncio)", "", ""},
	"redis-server": {"tcp-backlog LEN in redis.conf", "", "io-threads NUM in redis.conf"},
	"apache":       {"ListenBacklog LEN", "MaxRequestWorkers", ""},
	"httpd":        {"ListenBacklog LEN", "MaxRequestWorkers", ""},
	"unicorn":      {"listen ..., backlog: LEN in unicorn.rb", "worker_processes", "worker_processes NUM in unicorn.rb"},
}

func knobsOf(program string) knobs {
	k, _ := knownKnobs(program)
	return k
}

func knownKnobs(program string) (k knobs, ok bool) {
	k, ok = programKnobs[strings.TrimRight(program, "0123456789.")]
	return k, ok
}

// fewerWorkers is how these programs are told to run no more than n threads at a
// time, "" where that is not known. A program without knobs may be a Go or a Java
// one by any name.
func fewerWorkers(programs []string, n int) string {
	const anyName = "GOMAXPROCS=NUM (Go before 1.25), -XX:ActiveProcessorCount=NUM (Java)"
	var ways []string
	for _, p := range append(programs, "")[:max(len(programs), 1)] {
		way := anyName
		if k, ok := knownKnobs(p); ok {
			way = k.fewer
		}
		if way != "" && !slices.Contains(ways, way) {
			ways = append(ways, way)
		}
	}
	return strings.ReplaceAll(strings.Join(ways, ", "), "NUM", strconv.Itoa(n))
}

func moreWorkers(l *model.Listener) string {
	if k := knobsOf(l.Program).workers; k != "" {
		return fmt.Sprintf("more workers (%s)", k)
	}
	return "more workers"
}

// setBacklog makes the program ask for a listen backlog of n.
func setBacklog(l *model.Listener, n uint64) string {
	return strings.ReplaceAll(cmp.Or(knobsOf(l.Program).backlog, "listen(fd, LEN)"), "LEN", strconv.FormatUint(n, 10))
}

// sysctl is a command that sets what each network namespace has for itself.
func sysctl(f *model.Frame, l *model.Listener, name string, n uint64) string {
	return fmt.Sprintf("%ssysctl -w %s=%d", inNetNS(f, l), name, n)
}

// inNetNS prefixes a command that must run in l's network namespace, where
// there is more than one. The mounted sysctls are those of the reader's.
func inNetNS(f *model.Frame, l *model.Listener) string {
	w := liveThread(l)
	if f.Sample.Listen == nil || len(f.Sample.Listen.NetNS) < 2 || w == nil {
		return ""
	}
	return fmt.Sprintf("nsenter -t %d -n ", w.PID)
}

// longerQueue is how to get an accept queue of n. The limit is fixed when
// listen(2) is called: whatever raises it needs a restart.
func longerQueue(f *model.Frame, l *model.Listener, n uint64) string {
	q := l.Queue
	asked := q.Backlog >= 0 && uint64(q.Backlog) >= n
	capped := q.LimitFrom == model.LimitSomaxconn
	if q.NetNS != nil {
		capped = n > uint64(q.NetNS.Somaxconn)
	}
	set := setBacklog(l, n)
	switch {
	case asked && !capped:
		return "restart it: somaxconn was raised after it called listen(2), and a listener keeps the limit that it had then"
	case asked:
		return sysctl(f, l, "net.core.somaxconn", n) + ", then restart it"
	case capped && q.LimitUncertain && knobsOf(l.Program).backlog == "":
		return sysctl(f, l, "net.core.somaxconn", n) + ", then restart it, with " + set + " unless it is a Go server, which takes somaxconn"
	case capped:
		return sysctl(f, l, "net.core.somaxconn", n) + ", then " + set
	case q.NetNS == nil:
		return set + ", as far as net.core.somaxconn allows"
	}
	return set
}

// limitCause says what limits the accept queue, and what does not.
func limitCause(l *model.Listener) string {
	q, limit := l.Queue, l.AcceptQueueMax
	switch ns := q.NetNS; {
	case q.LimitFrom == model.LimitApplication && ns != nil && ns.Somaxconn > limit:
		return fmt.Sprintf("the limit is the listen backlog %d that the application asked for; raising net.core.somaxconn (%d) will not help", limit, ns.Somaxconn)
	case q.LimitFrom == model.LimitApplication && ns != nil:
		return fmt.Sprintf("the limit is the listen backlog %d that the application asked for, and net.core.somaxconn (%d) allows no more", limit, ns.Somaxconn)
	case q.LimitFrom == model.LimitApplication:
		return fmt.Sprintf("the limit is the listen backlog %d that the application asked for; raising net.core.somaxconn alone will not help", limit)
	case q.LimitUncertain:
		alike := "asked for just that"
		if knobsOf(l.Program).backlog == "" {
			alike += ", as Go does"
		}
		return fmt.Sprintf("the limit %d is net.core.somaxconn, which cut the listen backlog, unless the application %s", limit, alike)
	case q.LimitFrom == model.LimitSomaxconn && ns != nil && ns.Somaxconn > limit:
		return fmt.Sprintf("the application asked for %d and net.core.somaxconn cut it to %d at listen(2); it is %d by now", q.Backlog, limit, ns.Somaxconn)
	case q.LimitFrom == model.LimitSomaxconn:
		return fmt.Sprintf("the application asked for %d and net.core.somaxconn cut it to %d", q.Backlog, limit)
	}
	return fmt.Sprintf("where the limit %d comes from could not be seen", limit)
}
