-- Counter of one period: a window aligned to the epoch, a UTC day, a UTC month.
-- State: period number, count (6 bytes each).

local function period_open(meter, blob, payload_at, size, number, ends_ms)
  local used = 0
  if size > 0 then
    local counted, count = struct.unpack('<I6I6', blob, payload_at)
    if counted >= number then used = count end
    -- A period ahead of the clock: it jumped back. The count goes on in the present period and ends with it.
    if counted > number then meter.is_adjusted = true end
  end
  meter.number, meter.ends_ms = number, ends_ms
  meter.capacity = meter.limit
  meter.free = meter.limit - used
end

local function period_wait(meter, units, now_ms)
  if units > meter.limit and meter.window_ms > 0 then return meter.window_ms end
  return meter.ends_ms - now_ms
end

-- Gives back units that were charged in advance in the period `number`.
local function period_return(meter, units, number)
  if number ~= meter.number then return end
  meter.free = meter.free + math.min(units, meter.limit - meter.free)
end

local function period_close(meter)
  return struct.pack('<I6I2I6I6', meter.identity, 12, meter.number, meter.limit - meter.free)
end
