// SPDX-License-Identifier: Apache-2.0
//
// Counts flows by the port they go to, and drops those to one port: a filter in C,
// from nothing but ABI.md and millrace.h.
//
// Configuration: {"deny": 7777}, or {} to deny nothing.

#include <stdbool.h>
#include <millrace.h>

MILLRACE_MANIFEST(
	"{\"abi\":1,\"name\":\"port-count\",\"version\":\"0.1.0\","
	"\"description\":\"Counts flows by destination port, and denies one port.\","
	"\"hooks\":[\"flow\"],\"capabilities\":[\"drop\"],"
	"\"config\":{\"type\":\"object\",\"additionalProperties\":false,\"properties\":"
	"{\"deny\":{\"description\":\"The port whose flows are dropped.\","
	"\"type\":\"integer\",\"minimum\":1,\"maximum\":65535}}},"
	"\"rules\":[{\"id\":1,\"name\":\"denied-port\",\"help\":\"Flows to this port are denied.\"}],"
	"\"maps\":[{\"name\":\"ports\",\"key\":[{\"name\":\"port\",\"type\":\"u16\"}],"
	"\"value\":[{\"name\":\"flows\",\"type\":\"u64\"}]}]}");

#define RULE_DENIED_PORT 1

static int32_t ports;        // the host map's handle
static uint16_t denied_port; // 0 for none
static uint64_t denied;      // a counter: the host reads it here

static _Alignas(16) unsigned char heap[256 << 10];
static uint32_t used;

// Memory for the host to write to: its buffers, and the text of each configuration.
void *millrace_alloc(uint32_t len)
{
	uint32_t need = (len + 15) & ~15u;

	if (need < len || need > sizeof(heap) - used)
		return 0;
	used += need;
	return heap + used - need;
}

static uint32_t length(const char *text)
{
	uint32_t n = 0;

	while (text[n])
		n++;
	return n;
}

static int32_t refuse(const char *why)
{
	millrace_fail(why, length(why));
	return 1;
}

// Finds `word` in the text and returns what is behind it.
static const char *after(const char *text, const char *end, const char *word)
{
	uint32_t n = length(word);

	for (; end - text >= (int)n; text++) {
		uint32_t same = 0;

		while (same < n && text[same] == word[same])
			same++;
		if (same == n)
			return text + n;
	}
	return 0;
}

// Reads {"deny": N}. The host has checked nothing: the text may be anything.
static bool read_port(const char *json, const char *end, uint16_t *port)
{
	const char *at = after(json, end, "\"deny\"");
	uint32_t number = 0;

	*port = 0;
	if (!at)
		return true;
	while (at < end && (*at == ' ' || *at == ':'))
		at++;
	if (at == end || *at < '0' || *at > '9')
		return false;
	for (; at < end && *at >= '0' && *at <= '9'; at++) {
		number = number * 10 + (uint32_t)(*at - '0');
		if (number > 65535)
			return false;
	}
	*port = (uint16_t)number;
	return number > 0;
}

int32_t millrace_configure(const char *json, uint32_t len)
{
	static const struct millrace_map_shape shape = {
		.key_len = sizeof(uint16_t),
		.value_len = sizeof(uint64_t),
		.capacity = 65536,
	};

	bool good = read_port(json, json + len, &denied_port);

	// the text came last and belongs to this guest now: its place is free again
	used = (uint32_t)((const unsigned char *)json - heap);
	if (!good)
		return refuse("`deny`: must be a port, 1 to 65535");
	ports = millrace_map_open("ports", 5, &shape);
	if (ports < 0)
		return 1; // the host says why
	denied = 0;
	if (millrace_metric(MILLRACE_METRIC_COUNTER, "denied", 6, &denied) != MILLRACE_MAP_OK)
		return refuse("the counter `denied` is refused");
	return 0;
}

int32_t millrace_flow(const struct millrace_slot *slots, struct millrace_decision *decisions,
		      uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		const struct millrace_slot *slot = &slots[i];
		uint64_t flows;

		if (slot->class != MILLRACE_CLASS_FLOW)
			continue;
		millrace_map_add(ports, &slot->dst_port, 1, &flows);
		if (denied_port && slot->dst_port == denied_port) {
			denied++;
			decisions[i].control = MILLRACE_CONTROL_DROP;
			decisions[i].reason = MILLRACE_REASON_DENIED;
			decisions[i].rule = RULE_DENIED_PORT;
		}
	}
	return 0;
}
