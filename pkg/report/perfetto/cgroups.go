// SPDX-License-Identifier: Apache-2.0

package perfetto

import "github.com/herdtrace/herdtrace/pkg/report/model"

// coresAxis lets the cores that a cgroup used be seen beside its quota.
const coresAxis = "cores"

// The tracks of a cgroup, in their order.
const (
	rankThrottled = iota + 1
	rankUsed
	rankQuota
	rankRatio
)

var (
	cgroupUsed  = counterInfo{in: groupCGroups, name: "used cores", rank: rankUsed, unit: unit{name: "cores", axis: coresAxis}}
	cgroupQuota = counterInfo{in: groupCGroups, name: "quota", rank: rankQuota, unit: unit{name: "cores", axis: coresAxis}}
	cgroupRatio = counterInfo{in: groupCGroups, name: "throttled periods", rank: rankRatio, unit: percent, quiet: true}
)

// cgroupRow is the track of one cgroup.
func (t *Trace) cgroupRow(id uint64, title string) uint64 {
	if title == "" {
		title = "a cgroup that is gone"
	}
	return t.rowOf(rowKey{groupCGroups, id}, title, "id")
}

func (t *Trace) cgroups(f *model.Frame) {
	if f.CGroups == nil {
		return
	}
	t.looked[groupCGroups] = true
	for _, g := range f.CGroups {
		row := t.rowKnown(groupCGroups, g.ID)
		if row == 0 {
			row = t.cgroupRow(g.ID, g.Title())
		}
		of := func(info *counterInfo) *counter { return t.counterOf(info, g.ID, row) }
		t.set(of(&cgroupUsed), g.Used)
		if g.CFS != nil {
			t.set(of(&cgroupQuota), g.Quota)
			t.set(of(&cgroupRatio), 100*g.ThrottledRatio)
		}
	}
}
