// SPDX-License-Identifier: Apache-2.0

// Package compare lays two recordings side by side: before and after a fix, or the
// good server and the bad one. What was measured is put in relation to the load,
// each change comes with an interval that it is in, and each finding gets a verdict.
package compare
