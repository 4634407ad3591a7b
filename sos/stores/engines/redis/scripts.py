"""What is done in a Redis in one step, by scripts that run there.

A script runs whole or, when its first write is refused, not at all; and it is
on the disk before it is answered, or after a crash none of it is.  Each first
checks all there is to check: what it has written is not taken back.

What changes or lists anything looks first whether the *mark* of the store is there: its
id, or the version in one from before stores had ids that cannot be written to.

The keys of a store, behind its prefix:

=================  ======  ====================================================
``format``         string  the version of all this
``id``             string  the id of the store, a UUID
``ids``            zset    every id, behind its partition, in that order
``blob:ID``        hash    ``head``, see :mod:`sos.stores.engines.redis.record`; and
                           ``body``, or ``key``: where in ``body:`` it lies
``body:KEY``       hash    the pieces of a larger body, by number from 0
``digests``        hash    of each partition ``abc:count``, ``abc:bytes``,
                           ``abc:sum``
``lease``          string  the token of who may drop blobs
``aside:ID:TIME``  hash    a damaged blob, and the reason; its pieces are in
                           ``aside:ID:TIME:body``
=================  ======  ====================================================
"""

from __future__ import annotations

from hashlib import sha1

from attrs import field, frozen

from sos.model.lease import MAX_SECONDS


@frozen
class Script:
    """A script in Lua, and the name that Redis has for it."""

    text: str
    digest: str = field(init=False)

    @digest.default
    def _name(self) -> str:
        return sha1(self.text.encode("ascii"), usedforsecurity=False).hexdigest()


_IS_LEASE = f"""
local function lasts(key)
    -- One that would last longer is from before the clock was set.
    local left = redis.call("PTTL", key)
    return left >= 0 and left <= {MAX_SECONDS * 1000} and left
end
"""

#: Changes one blob, if its head is still the one expected.
#:
#: Keys: that of the mark, ids, digests, lease, the blob's own, where it is set aside.
#: Arguments: the mark; the token of the lease, or nothing; the head
#: expected, or nothing; how; the new head; its body or the key of that; how
#: many pieces that has; partition and id; what the keys of blobs and of
#: bodies begin with; the seconds for which readers can go on; the reason.
#:
#: How: ``inline`` or ``pieces``, by where the body is; ``settle`` for another
#: head alone; ``drop``; ``aside``, after which the partition is counted anew,
#: for a damaged head does not tell what it weighs.
#:
#: Returns ``done``, or why not: ``gone``, ``lease``, ``held`` by another
#: head, or the pieces are ``lost``.
CHANGE = Script(
    _IS_LEASE
    + """
local mark, ids, digests, lease, blob, aside = unpack(KEYS)
local there, token, expected, how, head, body, pieces, member, blobs, bodies, grace, reason =
    unpack(ARGV)
local partition = string.sub(member, 1, 3)
local count, bytes, sum = partition .. ":count", partition .. ":bytes", partition .. ":sum"
local zero = string.rep("\\0", 16)

local function total(one, sign, other)
    -- One digit of 8 bits after another: numbers here are exact to 53 bits alone.
    local digits, carry = {}, 0
    for place = 16, 1, -1 do
        local digit = string.byte(one, place) + sign * string.byte(other, place) + carry
        digits[place] = digit % 256
        carry = math.floor(digit / 256)
    end
    return string.char(unpack(digits))
end

local function weigh(head, sign)
    local size = struct.unpack(">I8", string.sub(head, 17, 24))
    local before = redis.call("HGET", digests, sum) or zero
    redis.call("HSET", digests, sum, total(before, sign, string.sub(head, 1, 16)))
    redis.call("HINCRBY", digests, bytes, string.format("%.0f", sign * size + 0)) -- no "-0"
    if redis.call("HINCRBY", digests, count, sign) == 0 then
        redis.call("HDEL", digests, count, bytes, sum)
    end
end

local function count_anew()
    redis.call("HDEL", digests, count, bytes, sum)
    local members = redis.call("ZRANGEBYLEX", ids, "[" .. partition, "(" .. partition .. "\\255")
    for _, each in ipairs(members) do
        local head = redis.call("HGET", blobs .. string.sub(each, 4), "head")
        if head and #head >= 24 then weigh(head, 1) end
    end
end

if redis.call("GET", mark) ~= there then return "gone" end
if token ~= "" and not (redis.call("GET", lease) == token and lasts(lease)) then return "lease" end
if (redis.call("HGET", blob, "head") or "") ~= expected then return "held" end
if how == "pieces" and redis.call("HLEN", bodies .. body) ~= tonumber(pieces) then
    return "lost"
end

local left = redis.call("HGET", blob, "key")
local listed = redis.call("ZSCORE", ids, member)
if how == "aside" then
    redis.call("ZREM", ids, member)
    if redis.call("EXISTS", blob) == 1 then
        redis.call("RENAME", blob, aside)
        redis.call("HSET", aside, "reason", reason)
    end
    if left and redis.call("EXISTS", bodies .. left) == 1 then
        redis.call("RENAME", bodies .. left, aside .. ":body")
    end
    count_anew()
    return "done"
end
if how == "drop" then
    redis.call("ZREM", ids, member)
    redis.call("UNLINK", blob)
else
    redis.call("HSET", blob, "head", head)
    redis.call("ZADD", ids, 0, member)
end
if how == "inline" then
    redis.call("HSET", blob, "body", body)
    redis.call("HDEL", blob, "key")
elseif how == "pieces" then
    redis.call("HSET", blob, "key", body)
    redis.call("HDEL", blob, "body")
    redis.call("PERSIST", bodies .. body)
end
if left and how ~= "settle" then redis.call("EXPIRE", bodies .. left, grace) end
if (listed ~= false) ~= (expected ~= "") then
    count_anew() -- somebody has taken away one of the two
else
    if expected ~= "" then weigh(expected, -1) end
    if how ~= "drop" then weigh(head, 1) end
end
return "done"
"""
)

#: Makes a new store where there is nothing, and gives one from before stores had ids its own.
#:
#: Keys: format, id, ids, digests.  Arguments: the version; a new id; ``1`` where a
#: store has to be there already.  Returns the id that is there in the end; ``none``
#: for no store, ``lost`` for a part of one, and ``format`` for one of another version.
OPEN = Script(
    """
local format, id, ids, digests = unpack(KEYS)
local version, new, required = unpack(ARGV)
local held = redis.call("GET", format)
if held and held ~= version then return "format" end
if not held then
    if redis.call("EXISTS", id, ids, digests) > 0 then return "lost" end
    if required == "1" then return "none" end
    redis.call("SET", format, version)
end
redis.call("SET", id, new, "NX")
return redis.call("GET", id)
"""
)

#: Writes what is there already, by which it is seen whether anything can be written.
#:
#: Key: that of the mark.  Argument: the mark.  Returns ``done``, or ``gone``.
TOUCH = Script(
    """
if redis.call("GET", KEYS[1]) ~= ARGV[1] then return "gone" end
redis.call("SET", KEYS[1], ARGV[1])
return "done"
"""
)

#: Adds a piece to a body that is on its way, and lets it live on.
#:
#: Key: the body's.  Arguments: the number of the piece, the piece, the seconds
#: for which it is kept without another.  Returns 0 when those before it are gone.
PIECE = Script(
    """
local key, number, piece, seconds = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
if redis.call("HLEN", key) ~= tonumber(number) then return 0 end
redis.call("HSET", key, number, piece)
redis.call("EXPIRE", key, seconds)
return 1
"""
)

#: Gives the lease, unless another has it.
#:
#: Keys: that of the mark, lease.  Arguments: the mark, the token, milliseconds.
#: Returns ``done``, ``gone``, or how many milliseconds the other has left.
LEASE = Script(
    _IS_LEASE
    + """
local mark, lease = unpack(KEYS)
if redis.call("GET", mark) ~= ARGV[1] then return "gone" end
local left = lasts(lease)
if left then return left end
redis.call("SET", lease, ARGV[2], "PX", ARGV[3])
return "done"
"""
)

#: Makes the lease last longer, if it is the one.
#:
#: Keys: that of the mark, lease.  Arguments: the mark, the token, milliseconds.
#: Returns ``done``, ``gone``, or ``lease`` when it is not valid any more.
PROLONG = Script(
    _IS_LEASE
    + """
local mark, lease = unpack(KEYS)
if redis.call("GET", mark) ~= ARGV[1] then return "gone" end
if not (redis.call("GET", lease) == ARGV[2] and lasts(lease)) then return "lease" end
redis.call("PEXPIRE", lease, ARGV[3])
return "done"
"""
)

#: Takes the lease back, if it is the one.  Key: lease.  Argument: the token.
RELEASE = Script(
    """
if redis.call("GET", KEYS[1]) == ARGV[1] then redis.call("DEL", KEYS[1]) end
return "done"
"""
)

#: Tells the heads of a partition, as a list of ids, each with its head behind it.
#:
#: Keys: that of the mark, ids.  Arguments: the mark, the partition, what the keys of
#: blobs begin with.  Returns ``gone`` when it is not the one.
HEADS = Script(
    """
if redis.call("GET", KEYS[1]) ~= ARGV[1] then return "gone" end
local found = {}
local range = {"[" .. ARGV[2], "(" .. ARGV[2] .. "\\255"}
for _, each in ipairs(redis.call("ZRANGEBYLEX", KEYS[2], unpack(range))) do
    local id = string.sub(each, 4)
    found[#found + 1] = id
    found[#found + 1] = redis.call("HGET", ARGV[3] .. id, "head") or ""
end
return found
"""
)
