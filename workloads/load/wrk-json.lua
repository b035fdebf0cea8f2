-- SPDX-License-Identifier: MIT
-- Makes wrk (4.1) report in JSON: one line on standard output, marked by its prefix because wrk
-- writes its own text there too.
--
--	wrk --script wrk-json.lua ...
--	IOLAB-JSON {"schema_version":1,"tool":"wrk",...}
--
-- What the numbers are, in wrk's terms:
--  * requests counts every complete response, whatever its status; errors.status counts those
--    above 399 among them. A connection closed in the middle of a response is reopened without
--    being counted anywhere, so wrk alone cannot vouch for completeness.
--  * duration_us runs from the start of the threads to their end, connecting included.
--  * Latencies are from the send of a request to its complete response, in a closed loop. wrk then
--    adds made-up samples for stalls longer than twice the mean interval between requests of a
--    connection (its correction for coordinated omission); "corrected" says so. Percentiles of
--    wrk and of iolab-load are therefore compared with care.
--  * errors.timeout counts responses slower than wrk's --timeout.

-- Integers without an exponent: JSON readers would take 1e+06 for a float.
local function integer(value)
	return string.format("%.0f", value)
end

-- An object of integers in the given order of keys.
local function object(keys, values)
	local parts = {}
	for _, key in ipairs(keys) do
		parts[#parts + 1] = string.format('"%s":%s', key, integer(values[key]))
	end
	return table.concat(parts, ",")
end

-- A latency of nothing is null, not the zero (or the largest integer) that wrk holds.
local function latency_object(latency, requests)
	local keys = { "min", "p50", "p90", "p99", "p999", "max", "mean" }
	if requests == 0 then
		return '"' .. table.concat(keys, '":null,"') .. '":null'
	end
	return object(keys, {
		min = latency.min,
		p50 = latency:percentile(50.0),
		p90 = latency:percentile(90.0),
		p99 = latency:percentile(99.0),
		p999 = latency:percentile(99.9),
		max = latency.max,
		mean = latency.mean,
	})
end

-- Called by wrk once, in its main thread, after all threads have ended.
function done(summary, latency, requests)
	local totals = {
		requests = summary.requests,
		bytes = summary.bytes,
		duration_us = summary.duration,
	}
	io.write(
		'IOLAB-JSON {"schema_version":1,"tool":"wrk","closed_loop":true,',
		object({ "requests", "bytes", "duration_us" }, totals),
		',"errors":{',
		object({ "connect", "read", "write", "status", "timeout" }, summary.errors),
		'},"latency":{"unit":"us","kind":"closed loop, service time","corrected":true,',
		latency_object(latency, summary.requests),
		"}}\n"
	)
end
