"""Lua scripts, each of which reads or changes a store in Redis atomically.

Redis runs a script whole or, if it refuses the first write, not at all. With the settings that
:mod:`sos.stores.engines.redis.trust` requires, the script is on disk before Redis answers; after
a crash all of it is there or nothing. Redis rolls nothing back, so each script makes all checks
before its first write.

Scripts that change, list or lease blobs first check the *mark* of the store: its id, or the
version if the store is older than ids and cannot be written to.

The keys of a store, after its prefix:

=================  ======  ====================================================
``format``         string  the version of this format
``id``             string  the id of the store, a UUID
``ids``            zset    partition and id of every blob, in that order
``blob:ID``        hash    ``head``, see :mod:`sos.stores.engines.redis.record`; and
                           ``body``, or ``key``: the KEY of its ``body:KEY``, and
                           ``hashes`` of those pieces
``body:KEY``       hash    the pieces of a larger body, by number from 0
``digests``        hash    for each partition ``abc:count``, ``abc:bytes``,
                           ``abc:sum``
``deleted``        zset    ids of blobs that may be tombstones: a listing looks at them
``lease``          string  the token of the lease, which allows drops
``aside:ID:TIME``  hash    a quarantined blob, and the reason; its pieces are in
                           ``aside:ID:TIME:body``
=================  ======  ====================================================
"""

from __future__ import annotations

from hashlib import sha1

from attrs import field, frozen

from sos.model.lease import MAX_SECONDS


@frozen
class Script:
    """A script in Lua, and the SHA-1 by which ``EVALSHA`` names it."""

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

#: Changes one blob, if its head is still the expected one.
#:
#: Keys: of the mark, ids, digests, lease, the deleted, the blob, its quarantine.
#: Arguments: the mark; the token of the lease, or empty; the expected head, or empty
#: for no blob; how; the new head; the body or its key; the number of its pieces;
#: partition and id; the prefixes of the keys of blobs and of bodies; the seconds for
#: which readers can still use the old body; the reason for the quarantine; the hashes
#: of the pieces, or empty; ``1`` if the new head is a tombstone's.
#:
#: How: ``inline`` or ``pieces``, by where the body is; ``settle`` to replace the head
#: only, and the hashes if there are some; ``drop``; ``aside`` for quarantine. ``aside``
#: recounts the partition, because a damaged head does not say what to subtract.
#:
#: Returns ``done``; ``gone`` if the mark is another; ``lease`` if the token is not valid;
#: ``held`` if the head is another; ``lost`` if pieces are missing.
CHANGE = Script(
    _IS_LEASE
    + """
local mark, ids, digests, lease, deleted, blob, aside = unpack(KEYS)
local there, token, expected, how, head, body, pieces, member, blobs, bodies, grace, reason,
    hashes, tombstone = unpack(ARGV)
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
    redis.call("ZREM", deleted, string.sub(member, 4))
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
    redis.call("HDEL", blob, "key", "hashes")
elseif how == "pieces" then
    redis.call("HSET", blob, "key", body)
    redis.call("HDEL", blob, "body")
    redis.call("PERSIST", bodies .. body)
end
if hashes ~= "" then redis.call("HSET", blob, "hashes", hashes) end
-- Not first: a full Redis refuses only those first writes that take memory.
if tombstone == "1" then
    redis.call("ZADD", deleted, 0, string.sub(member, 4))
else
    redis.call("ZREM", deleted, string.sub(member, 4))
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

#: Makes a new store where there is nothing, and gives a store without an id a new one.
#:
#: Keys: format, id, ids, digests. Arguments: the version; a new id; ``1`` if the store
#: must exist already. Returns the id of the store; ``none`` for no store, ``lost`` for a
#: part of one, ``format`` for another version.
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

#: Writes the mark again, to test whether Redis accepts writes.
#:
#: Key: of the mark. Argument: the mark. Returns ``done``, or ``gone``.
TOUCH = Script(
    """
if redis.call("GET", KEYS[1]) ~= ARGV[1] then return "gone" end
redis.call("SET", KEYS[1], ARGV[1])
return "done"
"""
)

#: Adds a piece to a body in flight, and extends the life of the body.
#:
#: Key: of the body. Arguments: the number of the piece, the piece, the seconds after
#: which Redis removes the body if no piece follows. Returns 0 if earlier pieces are gone.
PIECE = Script(
    """
local key, number, piece, seconds = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
if redis.call("HLEN", key) ~= tonumber(number) then return 0 end
redis.call("HSET", key, number, piece)
redis.call("EXPIRE", key, seconds)
return 1
"""
)

#: Grants the lease, unless another process has it.
#:
#: Keys: of the mark, lease. Arguments: the mark, the token, milliseconds.
#: Returns ``done``, ``gone``, or the milliseconds that the other lease has left.
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

#: Extends the lease with this token.
#:
#: Keys: of the mark, lease. Arguments: the mark, the token, milliseconds from now.
#: Returns ``done``, ``gone``, or ``lease`` if that is no longer valid.
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

#: Releases the lease with this token, if there is one. Key: lease. Argument: the token.
RELEASE = Script(
    """
if redis.call("GET", KEYS[1]) == ARGV[1] then redis.call("DEL", KEYS[1]) end
return "done"
"""
)

#: Returns the heads of a partition, as a list of ids, each followed by its head.
#:
#: Keys: of the mark, ids. Arguments: the mark, the partition, the prefix of the keys of
#: blobs. Returns ``gone`` if the mark is another.
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

#: Returns which of the given ids may be those of tombstones, each followed by its head.
#:
#: Key: the deleted. Arguments: the prefix of the keys of blobs, and the ids.
DELETED = Script(
    """
local found = {}
if redis.call("EXISTS", KEYS[1]) == 0 then return found end
for place = 2, #ARGV do
    local id = ARGV[place]
    if redis.call("ZSCORE", KEYS[1], id) then
        found[#found + 1] = id
        found[#found + 1] = redis.call("HGET", ARGV[1] .. id, "head") or ""
    end
end
return found
"""
)
