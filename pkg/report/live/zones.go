// SPDX-License-Identifier: Apache-2.0

package live

// zone is a place on the screen that does something when it is clicked.
type zone struct {
	x, y, w, h int // of the whole screen
	hit        hit
}

// hit is what a click asks for.
type hit struct {
	what  hitKind
	panel Panel
	id    uint64 // of the row
	col   int    // of the table, from 0
}

type hitKind uint8

const (
	hitNothing hitKind = iota
	hitPanel           // anywhere in it
	hitTab             // its name
	hitHead            // the head of a column
	hitRow
	hitDrillHead
	hitDrillRow
	hitFinding
)

// zone makes w columns and h lines at column x of line y answer a click.
func (g *Grid) zone(x, y, w, h int, what hit) {
	at := g.at(x, y)
	*g.zones = append(*g.zones, zone{at % g.stride, at / g.stride, w, h, what})
}

// hitAt is what is at column x of line y: of several the one drawn last.
func (g *Grid) hitAt(x, y int) hit {
	zones := *g.zones
	for i := len(zones) - 1; i >= 0; i-- {
		if z := &zones[i]; x >= z.x && x < z.x+z.w && y >= z.y && y < z.y+z.h {
			return z.hit
		}
	}
	return hit{}
}
