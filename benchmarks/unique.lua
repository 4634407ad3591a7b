-- For wrk: requests that differ in a counter of twelve digits, which stands where the
-- mark stood, in the path or in the body.  Arguments: mark, method, body.
local before, after
local count = 0

function init(args)
   wrk.headers["Content-Type"] = "application/octet-stream"
   local whole = wrk.format(args[2], wrk.path, nil, args[3])
   local first, last = string.find(whole, args[1], 1, true)
   before, after = string.sub(whole, 1, first - 1), string.sub(whole, last + 1)
end

-- One concatenation a request: what wrk spends is taken from the server's share.
function request()
   count = count + 1
   return before .. string.format("%012d", count) .. after
end
