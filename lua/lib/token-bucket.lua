-- Token bucket as GCRA: one number, the theoretical arrival time (`tat`), stands for the whole bucket.
--
-- The backlog (tat - now) is what is used up, in microseconds: each unit is worth one emission interval, and the
-- backlog may reach burst * interval. The interval is stored beside, so that a changed limit keeps the used UNITS and
-- not the used time.
-- State: tat in microseconds (8 bytes), interval in microseconds (6 bytes).

local function bucket_open(meter, blob, payload_at, size, now_us)
  local interval_us = meter.interval_us
  local depth_us = meter.burst * interval_us
  local backlog_us = 0
  if size > 0 then
    local tat_us, counted_interval_us = struct.unpack('<I8I6', blob, payload_at)
    if tat_us > now_us then
      backlog_us = tat_us - now_us
      if counted_interval_us ~= interval_us then
        backlog_us = math.ceil(backlog_us / counted_interval_us * interval_us)
        meter.is_adjusted = true
      end
      -- Emptier than empty: the clock jumped back or the burst was lowered. An empty bucket is the worst there is.
      if backlog_us > depth_us then
        backlog_us = depth_us
        meter.is_adjusted = true
      end
    end
  end
  meter.backlog_us = backlog_us
  meter.capacity = meter.burst
  meter.free = math.floor((depth_us - backlog_us) / interval_us)
end

local function bucket_wait(meter, units)
  if units > meter.burst then return math.ceil(meter.burst * meter.interval_us / 1000) end
  local backlog_us = meter.backlog_us + meter.charged * meter.interval_us
  return math.ceil((backlog_us + (units - meter.burst) * meter.interval_us) / 1000)
end

local function bucket_close(meter, now_us)
  local tat_us = now_us + meter.backlog_us + meter.charged * meter.interval_us
  return struct.pack('<I6I2I8I6', meter.identity, 14, tat_us, meter.interval_us)
end
