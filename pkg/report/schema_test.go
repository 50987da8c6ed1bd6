// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

// pinned are the keys of every object in the NDJSON: what scripts rely on. Keys
// may be added; one that is renamed or removed breaks somebody.
var pinned = map[string]struct {
	of   any
	keys string
}{
	"header":    {jsonHeader{}, "v type ts mono_ns version host kernel arch cpus boot_id interval_ns command pids ports signals rung rung_reason"},
	"signal":    {sample.Signal{}, "name variant accuracy hooks note rejected"},
	"rejection": {sample.Rejection{}, "variant error"},
	"interval":  {jsonInterval{}, "v type ts mono_ns elapsed_ns interval_ns asked_interval_ns cost listeners netns cpus netrx cgroups processes cpu_sold_ratio cpu_sold_cores"},
	"cost":      {jsonCost{}, "user_cpu_ratio bpf_cpu_ratio memory_bytes lost_total lost recursion_misses_total recursion_misses_by ticks_skipped_total budget"},
	"budget":    {sample.Budget{}, "limit_ratio cost_ratio exceeded shed events_shed_total thread_looks_shed_total"},
	"shed":      {sample.Shed{}, "what how now times_total for_ns"},
	"listener": {jsonListener{}, "addr port proto netns netns_cookie inode closed program wait reuseport sockets processes holders workers accept_queue_len accept_queue_max bursts_unsent_total " +
		"accept_queue_peak accept_queue_peak_sampled syn_queue_len syn_queue_max syn_queue_peak syn_queue_peak_sampled " +
		"refusals_total refusals refusals_per_s refusals_seen_total refusals_unsent_total refusals_approximate " +
		"refused_clients refused_clients_estimated refused_client_retries refused_clients_top syncookies_sent_total syncookies_failed_total " +
		"accept_queue_full_ratio accept_queue_full_seconds_total accept_queue_wait_s " +
		"listen_backlog accept_queue_limit_from accept_queue_limit_uncertain syn_queue_limit_from " +
		"completions_total accepts_total accept_eagain_total wakeups_total wasted_wakeups_total drain_eagain_total empty_wakeups_total " +
		"empty_wakeups_cpu_seconds_total wakeups_per_accept accepts_per_s completions_per_s wakeups_per_s accept_eagain_per_s threads"},
	"thread": {jsonWorker{}, "pid tid comm wait ended stopped accepts_total accept_eagain_total wakeups_total wasted_wakeups_total drain_eagain_total " +
		"accept_share_ratio run_ratio wait_ratio"},
	"finding": {jsonFinding{}, "v type ts mono_ns id state severity subject evidence cause remedy verify outcome inode cpu cgroup_id pid values since until"},
	"event": {jsonEvent{}, "v type ts mono_ns kind listener program inode cpu woken accept_queue_len syn_queue_len place client refused device " +
		"cgroup cgroup_id duration_ns throttled_ns cores threads tids"},
	"summary":   {jsonSummary{}, "v type ts mono_ns elapsed_ns cost listeners netns cpus netrx cgroups processes cpu_sold_ratio cpu_sold_cores findings_total findings command command_exit_code gate"},
	"gate":      {jsonGate{}, "verdict conditions"},
	"condition": {jsonCondition{}, "condition verdict reason"},

	"refusals":       {sample.Refusals{}, "accept_queue_syn accept_queue_ack accept_queue_cookie syn_queue"},
	"retries":        {jsonRetries{}, "once twice three_to_five more"},
	"refused_client": {sample.RefusedClient{}, "addr port refusals"},
	"netns":          {jsonNetNS{}, "netns netns_cookie somaxconn max_syn_backlog syncookies abort_on_overflow tcp_ext unattributed_refusals"},
	"tcp_ext": {sample.TCPExt{}, "listen_overflows_total listen_drops_total syn_queue_drops_total syn_queue_cookies_total " +
		"syncookies_sent_total syncookies_recv_total syncookies_failed_total"},
	"cpu": {jsonCPU{}, "cpu busy_ratio idle_ratio softirq_ratio " +
		"net_rx_softirq_seconds_total net_rx_softirqs_total net_rx_softirq_ratio net_rx_latency_p99_ns " +
		"softnet_processed_total softnet_dropped_total softnet_times_squeezed_total softnet_received_rps_total ksoftirqd_run_seconds_total " +
		"busy_seconds_total runq_wait_seconds_total runq_throttled_seconds_total runq_wait_p99_ns runq_len runq_peak unclaimed_idle_seconds_total switches_total steal_seconds_total"},
	"netrx":            {jsonNetRX{}, "netdev_max_backlog share_ratio top_cpu cpu_backlog_drops cpu_backlog_drops_unattributed_total devices"},
	"cpu_backlog_drop": {jsonBacklogDrop{}, "netns device ifindex from_cpu dropped_total"},
	"device":           {jsonDevice{}, "netns device ifindex driver rx_packets_total rx_queues rps_cpus irqs"},
	"irq":              {jsonIRQ{}, "irq name affinity"},

	"cgroup": {jsonCGroup{}, "path name cgroup_id parent_cgroup_id cpu_seconds_total " + pinnedWaits + " " + pinnedSwitches + " cpu_quota_us cpu_period_us cpu_burst_us " +
		"cfs_periods_total cfs_throttled_periods_total cfs_throttled_seconds_total cpu_usage_seconds_total cpu_demand_cores threads cpu_weight contended_by"},
	"process": {jsonProcess{}, "pid start_ns comm program cgroup_id kernel ended run_seconds_total " + pinnedWaits + " claimed_seconds_total " +
		pinnedSwitches + " threads top_threads contended_by"},
	"process_thread": {jsonProcessThread{}, "tid comm cpu run_seconds_total " + pinnedWaits + " " + pinnedSwitches + " wait_pending_seconds nice policy cpus_allowed cpuset"},
	"contender":      {jsonContender{}, "pid comm wait_seconds_total"},
}

const pinnedWaits = "wait_seconds_total wait_throttled_seconds_total wait_contended_seconds_total wait_mask_seconds_total wait_stolen_seconds_total"

const pinnedSwitches = "voluntary_switches_total involuntary_switches_total wakes_total migrations_total"

// pinnedValues are the keys of the values of each finding.
var pinnedValues = map[string]string{
	"accept-herd":  "accept_eagain_ratio connections_per_s empty_wakeups_cpu_ratio sockets useless_wakeups_per_s wakeups_per_accept wakeups_per_s workers",
	"accept-skew":  "fair_share_ratio host_idle_cores siblings_busy_ratio top_run_ratio top_share_ratio top_tid",
	"accept-stall": "accept_queue_len accepts_per_s queued_looks stalled_looks workers",
	"accept-queue-overflow": "accept_queue_full_ratio accept_queue_max accept_queue_peak host_idle_cores refusals_per_s refused_at_ack_per_s refused_at_syn_per_s " +
		"refused_clients_total refused_ratio sufficient_backlog workers workers_run_ratio workers_wait_ratio",
	"accept-queue-wait":  "accept_queue_len accept_queue_max accept_queue_wait_seconds accepted_per_s host_idle_cores workers workers_run_ratio workers_wait_ratio",
	"syn-queue-overflow": "connections_per_s sufficient_backlog syn_queue_max syn_queue_peak syncookies_per_s",
	// The same without cookies.
	"syn-queue-overflow refused": "refused_clients_total refused_ratio syn_queue_max syn_queue_peak syn_refused_per_s",
	"netrx-imbalance":            "dropped_per_s idle_ratio ksoftirqd_ratio netrx_ratio netrx_share_ratio others_idle_cores squeezed_per_s",
	"netdev-backlog-drop":        "cores dropped_per_s dropped_ratio netdev_max_backlog",

	"runq-pile":                "idle_cores unclaimed_ratio wait_p99_seconds waiting_threads",
	"cfs-throttle":             pinnedThrottle,
	"cfs-throttle-below-quota": pinnedThrottle,
	"cpu-oversold":             "cpu_quota_cores cpu_sold_cores cpu_sold_ratio cpu_used_cores host_busy_ratio steal_ratio wait_contended_ratio",
	"cputime-frozen":           "claimed_seconds run_seconds still_seconds",
	"cputime-hidden":           "busy_ratio hidden_ratio shown_ratio switches_per_s",
}

const pinnedThrottle = "cfs_throttled_ratio cpu_demand_cores cpu_quota_cores cpu_used_cores stopped_ratio wait_throttled_threads worst_stall_seconds"

// field is one key of a record.
type field struct {
	key      string
	optional bool
	number   bool
}

// fieldsOf are the keys of a struct as encoding/json writes them.
func fieldsOf(t reflect.Type) []field {
	var out []field
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous && f.Type.Kind() == reflect.Pointer { // nil: none of its fields
			for _, g := range fieldsOf(f.Type.Elem()) {
				g.optional = true
				out = append(out, g)
			}
			continue
		}
		if f.Anonymous {
			out = append(out, fieldsOf(f.Type)...)
			continue
		}
		key, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		ft := f.Type
		if ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		out = append(out, field{key, options == "omitempty", ft.Kind() >= reflect.Int && ft.Kind() <= reflect.Float64})
	}
	return out
}

func TestKeysArePinned(t *testing.T) {
	for name, p := range pinned {
		var got []string
		for _, f := range fieldsOf(reflect.TypeOf(p.of)) {
			got = append(got, f.key)
		}
		if s := strings.Join(got, " "); s != p.keys {
			t.Errorf("keys of a %s:\n%s\nwant\n%s", name, s, p.keys)
		}
	}
}

var (
	snakeCase = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)
	// units end every key of a number, except for unitless: counts of things that
	// are there now, and names that are numbers.
	units    = regexp.MustCompile(`_(ns|us|bytes|seconds|wait_s|ratio|per_s|per_accept|total|cores|len|max|peak|looks|code|clients|backlog|queues|cpu|threads)$`)
	unitless = strings.Fields("v cpus port netns netns_cookie inode pid tid top_tid cpu woken sockets processes workers refused refusals once twice three_to_five more " +
		"accept_queue_syn accept_queue_ack accept_queue_cookie syn_queue somaxconn syncookies abort_on_overflow ifindex irq cores threads cgroup_id parent_cgroup_id cpu_weight nice")
)

// checkKey holds a key against the glossary's rules.
func checkKey(t *testing.T, where, key string, number bool) {
	t.Helper()
	if !snakeCase.MatchString(key) {
		t.Errorf("%s: %q is not snake_case", where, key)
	}
	if number && !units.MatchString(key) && !slices.Contains(unitless, key) {
		t.Errorf("%s: %q has no unit", where, key)
	}
}

func TestKeysFollowTheGlossary(t *testing.T) {
	for name, p := range pinned {
		for _, f := range fieldsOf(reflect.TypeOf(p.of)) {
			checkKey(t, name, f.key, f.number)
		}
	}
}

func TestValueKeysArePinned(t *testing.T) {
	seen := make(map[string]bool)
	for _, name := range recordings(t) {
		if name == "no-accept" || name == "without-bpf" {
			continue // a value that is not measured is absent
		}
		for _, f := range replay(t, readRecording(t, name)).Findings {
			id := f.ID
			if _, ok := f.Values["syn_refused_per_s"]; ok {
				id += " refused"
			}
			seen[id] = true
			if got := strings.Join(slices.Sorted(maps.Keys(f.Values)), " "); got != pinnedValues[id] {
				t.Errorf("%s: values of %s:\n%s\nwant\n%s", name, id, got, pinnedValues[id])
			}
			for key := range f.Values {
				checkKey(t, f.ID, key, true)
			}
		}
	}
	for id := range pinnedValues {
		if !seen[id] {
			t.Errorf("no recording raises %s", id)
		}
	}
}

// schema is the part of JSON Schema (2020-12) that testdata/schema.json uses.
type schema struct {
	Schema      string             `json:"$schema"`
	Title       string             `json:"title"`
	Description string             `json:"description"`
	Ref         string             `json:"$ref"`
	Defs        map[string]*schema `json:"$defs"`
	OneOf       []*schema          `json:"oneOf"` // told apart by the const of "type"
	Type        any                `json:"type"`  // a name, or several
	Const       any                `json:"const"`
	Enum        []any              `json:"enum"`
	Required    []string           `json:"required"`
	Properties  map[string]*schema `json:"properties"`
	Items       *schema            `json:"items"`
	Additional  *schema            `json:"additionalProperties"`
}

func readSchema(t *testing.T) *schema {
	t.Helper()
	b, err := os.ReadFile(testdata + "/schema.json")
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields() // a keyword that check would not heed
	s := &schema{}
	if err := d.Decode(s); err != nil {
		t.Fatal(err)
	}
	return s
}

// check validates v, at path, against s under root.
func (s *schema) check(root *schema, path string, v any) error {
	if s.Ref != "" {
		return root.resolve(s).check(root, path, v)
	}
	if s.OneOf != nil {
		m, _ := v.(map[string]any)
		for _, o := range s.OneOf {
			if o = root.resolve(o); m["type"] != nil && o.Properties["type"].Const == m["type"] {
				return o.check(root, path, v)
			}
		}
		return fmt.Errorf("%s: none of the types", path)
	}
	if s.Const != nil && s.Const != v {
		return fmt.Errorf("%s: %v is not %v", path, v, s.Const)
	}
	if s.Enum != nil && !slices.Contains(s.Enum, v) {
		return fmt.Errorf("%s: %v is none of %v", path, v, s.Enum)
	}
	if s.Type != nil && !slices.ContainsFunc(typeNames(v), s.allows) {
		return fmt.Errorf("%s: %v is no %v", path, v, s.Type)
	}
	switch v := v.(type) {
	case []any:
		for i, e := range v {
			if err := s.Items.check(root, fmt.Sprintf("%s[%d]", path, i), e); err != nil {
				return err
			}
		}
	case map[string]any:
		for _, key := range s.Required {
			if _, ok := v[key]; !ok {
				return fmt.Errorf("%s: no %s", path, key)
			}
		}
		for key, e := range v {
			p := s.Properties[key]
			if p == nil {
				p = s.Additional
			}
			if p == nil {
				return fmt.Errorf("%s: the schema lacks %s", path, key)
			}
			if err := p.check(root, path+"."+key, e); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *schema) allows(name string) bool {
	if many, ok := s.Type.([]any); ok {
		return slices.Contains(many, any(name))
	}
	return s.Type == name
}

func (s *schema) resolve(r *schema) *schema {
	if r.Ref == "" {
		return r
	}
	return s.Defs[strings.TrimPrefix(r.Ref, "#/$defs/")]
}

// typeNames are JSON Schema's names for the type of v.
func typeNames(v any) []string {
	switch v := v.(type) {
	case nil:
		return []string{"null"}
	case bool:
		return []string{"boolean"}
	case string:
		return []string{"string"}
	case []any:
		return []string{"array"}
	case float64:
		if v == float64(int64(v)) {
			return []string{"integer", "number"}
		}
		return []string{"number"}
	}
	return []string{"object"}
}

// TestSchemaHasEveryKey, and requires those that are always there.
func TestSchemaHasEveryKey(t *testing.T) {
	root := readSchema(t)
	if got, want := slices.Sorted(maps.Keys(root.Defs)), slices.Sorted(maps.Keys(pinned)); !slices.Equal(got, want) {
		t.Errorf("the schema defines %v, want %v", got, want)
	}
	for name, p := range pinned {
		var keys, required []string
		for _, f := range fieldsOf(reflect.TypeOf(p.of)) {
			keys = append(keys, f.key)
			if !f.optional {
				required = append(required, f.key)
			}
		}
		s := root.Defs[name]
		slices.Sort(keys)
		if got := slices.Sorted(maps.Keys(s.Properties)); !slices.Equal(got, keys) {
			t.Errorf("%s: properties %v, want %v", name, got, keys)
		}
		slices.Sort(required)
		if got := slices.Sorted(slices.Values(s.Required)); !slices.Equal(got, required) {
			t.Errorf("%s: required %v, want %v", name, got, required)
		}
	}
}

func TestGoldensMatchTheSchema(t *testing.T) {
	root := readSchema(t)
	types := make(map[any]bool)
	for _, name := range recordings(t) {
		b, err := os.ReadFile(filepath.Join(testdata, "golden", name+".ndjson"))
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range bytes.Split(bytes.TrimSuffix(b, []byte("\n")), []byte("\n")) {
			var v map[string]any
			if err := json.Unmarshal(line, &v); err != nil {
				t.Fatalf("%s:%d: %v", name, i+1, err)
			}
			types[v["type"]] = true
			if err := root.check(root, fmt.Sprintf("%s:%d", name, i+1), v); err != nil {
				t.Error(err)
			}
		}
	}
	if len(types) != len(root.OneOf) {
		t.Errorf("the goldens have records of types %v only", types)
	}
}

// TestSchemaRefuses: the validator sees what is wrong.
func TestSchemaRefuses(t *testing.T) {
	root := readSchema(t)
	const ok = `{"v":1,"type":"event","ts":"t","mono_ns":1,"kind":"k","cpu":0}`
	for _, tt := range []struct{ old, new, want string }{
		{"", "", ""},
		{`"v":1`, `"v":2`, "x.v: 2 is not 1"},
		{`"event"`, `"other"`, "x: none of the types"},
		{`"cpu":0`, `"cpu":0.5`, "x.cpu: 0.5 is no integer"},
		{`"cpu":0`, `"cpu":null`, "x.cpu: <nil> is no integer"},
		{`"cpu":0`, `"cpux":0`, "x: no cpu"},
		{`"cpu":0`, `"cpu":0,"y":1`, "x: the schema lacks y"},
	} {
		var v any
		if err := json.Unmarshal([]byte(strings.Replace(ok, tt.old, tt.new, 1)), &v); err != nil {
			t.Fatal(err)
		}
		got := ""
		if err := root.check(root, "x", v); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.new, got, tt.want)
		}
	}
}
