// SPDX-License-Identifier: Apache-2.0

package perfetto

// Field numbers of Perfetto's public schema, protos/perfetto/trace and below:
// trace.proto, trace_packet.proto, clock_snapshot.proto and track_event/*.proto.
const (
	tracePacket field = 1

	packetClockSnapshot    field = 6
	packetTimestamp        field = 8
	packetSequenceID       field = 10
	packetTrackEvent       field = 11
	packetSequenceFlags    field = 13
	packetTimestampClockID field = 58
	packetTrackDescriptor  field = 60

	snapshotClocks  field = 1
	snapshotPrimary field = 2
	clockID         field = 1
	clockTimestamp  field = 2

	trackUUID          field = 1
	trackName          field = 2
	trackParent        field = 5
	trackCounter       field = 8
	trackChildOrdering field = 11
	trackRank          field = 12
	trackDescription   field = 14

	counterUnit     field = 3
	counterUnitName field = 6
	counterYAxis    field = 7

	eventAnnotation    field = 4
	eventType          field = 9
	eventTrackUUID     field = 11
	eventName          field = 23
	eventCounter       field = 30
	eventDoubleCounter field = 44

	annotationUint   field = 3
	annotationDouble field = 5
	annotationString field = 6
	annotationName   field = 10
	annotationDict   field = 11
)

// Values of its enumerations: BuiltinClock (builtin_clock.proto), SequenceFlags,
// TrackEvent.Type, ChildTracksOrdering and CounterDescriptor.Unit.
const (
	clockRealtime  = 1
	clockMonotonic = 3

	incrementalStateCleared = 1

	sliceBegin   = 1
	sliceEnd     = 2
	instant      = 3
	counterValue = 4

	orderByName = 1
	orderByRank = 3

	unitTimeNS = 1
	unitCount  = 2
	unitBytes  = 3
)
