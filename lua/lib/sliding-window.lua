-- Sliding window as a segmented log: never more than `limit` units in ANY span of `window` ms.
--
-- The time axis is cut into cells of window / 16; the calls of one cell share one pair (last, count), whose `last` is
-- the time of the newest of them, and the pair counts until last + window. No call is forgotten before its window is
-- over, so the sum is never too small; a unit comes back at most one cell late. Limits of up to 16 units keep calls
-- of different milliseconds apart and are exact.
-- State: used (6 bytes: the sum of the counts), then 12 bytes a pair, oldest first. Only its two ends are read and the
-- middle is copied as it is, so that a request costs the same however many pairs there are.
-- A record that leases were taken of has a slack: what is charged in advance is dated at the end of its lease, which is
-- that far ahead of the clock at most, and nothing is dated earlier than the newest pair. So a unit counts until one
-- window after it may have been used.
-- Bound: 17 cells touch a window, 19 with that slack, and at most 16 exact pairs can be left from before a limit was
-- raised: 35 pairs.

local sliding_cells = 16

-- What is charged from now on is dated `ahead_ms` ahead of the clock; it joins the newest pair, and moves it there, or
-- opens one of its own.
local function sliding_date(meter, now_ms, ahead_ms)
  local newest_ms, at_ms = meter.newest_ms, now_ms + ahead_ms
  if at_ms < newest_ms then at_ms = newest_ms end
  meter.at_ms = at_ms
  meter.is_joining = meter.from <= meter.newest_at
    and (
      newest_ms == at_ms
      or meter.limit > sliding_cells
        and math.floor(newest_ms * sliding_cells / meter.window_ms)
          == math.floor(at_ms * sliding_cells / meter.window_ms)
    )
end

-- In the meter: `from` is where the oldest live pair starts in `blob`, `newest_at` where the newest one does.
local function sliding_open(meter, blob, payload_at, size, now_ms, slack_ms)
  local used, oldest_ms, newest_ms, newest_count = 0, 0, 0, 0
  local from, newest_at = payload_at + 6, payload_at + size - 12
  if size > 6 then
    used, oldest_ms = struct.unpack('<I6I6', blob, payload_at)
    newest_ms, newest_count = struct.unpack('<I6I6', blob, newest_at)
    local horizon_ms = now_ms + slack_ms
    if newest_ms > horizon_ms then
      -- The clock jumped back. What lies ahead of it counts as of now, which frees it one window from now.
      local ahead = 0
      repeat
        ahead = ahead + newest_count
        newest_at = newest_at - 12
        if newest_at < from then break end
        newest_ms, newest_count = struct.unpack('<I6I6', blob, newest_at)
      until newest_ms <= horizon_ms
      blob = string.sub(blob, from, newest_at + 11) .. struct.pack('<I6I6', horizon_ms, ahead)
      from, newest_at = 1, #blob - 11
      oldest_ms = struct.unpack('<I6', blob, 1)
      newest_ms, newest_count = horizon_ms, ahead
      meter.is_adjusted = true
    end
    local expired_until = now_ms - meter.window_ms
    while oldest_ms <= expired_until do
      local _, count = struct.unpack('<I6I6', blob, from)
      used = used - count
      from = from + 12
      if from > newest_at then break end
      oldest_ms = struct.unpack('<I6', blob, from)
    end
  end
  meter.blob, meter.from, meter.newest_at = blob, from, newest_at
  meter.newest_count = newest_count
  meter.newest_ms = from <= newest_at and newest_ms or 0
  sliding_date(meter, now_ms, 0)
  meter.capacity = meter.limit
  meter.free = meter.limit - used
end

-- Gives back units that were charged in advance, dated `at_ms`. They are in the first pair that is not older: pairs only
-- ever move forward in time. When that is gone with its window, nothing comes back: what is newer was charged by others.
local function sliding_return(meter, units, at_ms, now_ms)
  if now_ms >= at_ms + meter.window_ms then return end
  for at = meter.from, meter.newest_at, 12 do
    local last_ms, count = struct.unpack('<I6I6', meter.blob, at)
    if last_ms >= at_ms then
      local returned = math.min(units, count)
      local blob = meter.blob
      meter.blob = string.sub(blob, 1, at - 1)
        .. struct.pack('<I6I6', last_ms, count - returned)
        .. string.sub(blob, at + 12)
      if at == meter.newest_at then meter.newest_count = count - returned end
      meter.free = meter.free + returned
      return
    end
  end
end

-- Time until `units` are free: the oldest pairs leave first, what this batch has charged leaves last.
local function sliding_wait(meter, units, now_ms)
  if units > meter.limit then return meter.window_ms end
  local missing, older_until = units - meter.free, meter.newest_at
  if meter.charged > 0 and meter.is_joining then older_until = older_until - 12 end
  for at = meter.from, older_until, 12 do
    local last_ms, count = struct.unpack('<I6I6', meter.blob, at)
    missing = missing - count
    if missing <= 0 then return last_ms + meter.window_ms - now_ms end
  end
  return meter.at_ms + meter.window_ms - now_ms
end

local function sliding_close(meter)
  local used, charged, from, older_until = meter.limit - meter.free, meter.charged, meter.from, meter.newest_at + 11
  if charged == 0 then
    local pairs_kept = string.sub(meter.blob, from, older_until)
    return struct.pack('<I6I2I6c0', meter.identity, 6 + #pairs_kept, used, pairs_kept)
  end
  if meter.is_joining then
    older_until = older_until - 12
    charged = charged + meter.newest_count
  end
  if older_until < from then return struct.pack('<I6I2I6I6I6', meter.identity, 18, used, meter.at_ms, charged) end
  local older = string.sub(meter.blob, from, older_until)
  return struct.pack('<I6I2I6c0I6I6', meter.identity, 18 + #older, used, older, meter.at_ms, charged)
end
