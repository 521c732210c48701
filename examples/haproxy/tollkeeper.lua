-- Asks Tollkeeper's verify plane whether a request may pass; haproxy.cfg beside this file calls it.
--
-- Made by: tollkeeper gen haproxy --listen 0.0.0.0:80 --upstream http://127.0.0.1:3000 --verify http://127.0.0.1:8081 --out .

local verify_url = "http://127.0.0.1:8081/verify"
local timeout_ms = 2000

-- What Tollkeeper decides by. All lines of a field are passed on: a repeated credential is refused, not chosen from.
local asked = {
    "authorization",
    "signature-input",
    "signature",
    "x-tollkeeper-token",
    "x-tollkeeper-timestamp",
    "x-tollkeeper-nonce",
    "x-tollkeeper-signature",
    "x-tollkeeper-content-sha256",
    "content-digest",
    "x-request-id",
    "user-agent",
}

-- What haproxy.cfg sets from the answer, by variable.
local kept = {
    ["x-tollkeeper-token-id"] = "txn.tollkeeper_x_tollkeeper_token_id",
    ["x-tollkeeper-tenant"] = "txn.tollkeeper_x_tollkeeper_tenant",
    ["x-tollkeeper-scopes"] = "txn.tollkeeper_x_tollkeeper_scopes",
    ["x-tollkeeper-subject"] = "txn.tollkeeper_x_tollkeeper_subject",
    ["x-tollkeeper-content-sha256"] = "txn.tollkeeper_x_tollkeeper_content_sha256",
    ["ratelimit-policy"] = "txn.tollkeeper_ratelimit_policy",
    ["ratelimit"] = "txn.tollkeeper_ratelimit",
    ["x-ratelimit-limit"] = "txn.tollkeeper_x_ratelimit_limit",
    ["x-ratelimit-remaining"] = "txn.tollkeeper_x_ratelimit_remaining",
    ["x-ratelimit-reset"] = "txn.tollkeeper_x_ratelimit_reset",
    ["x-request-id"] = "txn.tollkeeper_x_request_id",
}

-- Fields of a refusal that are of this connection, or that HAProxy writes itself.
local own = { ["connection"] = true, ["content-length"] = true, ["transfer-encoding"] = true, ["keep-alive"] = true }

core.register_action("tollkeeper", { "http-req" }, function(txn)
    txn:set_var("txn.tollkeeper_verdict", "asked")
    local headers = txn.http:req_get_headers()
    local question = {
        ["x-forwarded-method"] = { txn.sf:method() },
        ["x-forwarded-uri"] = { txn.sf:pathq() },
        ["x-forwarded-for"] = { txn.sf:src() },
        ["x-forwarded-proto"] = { txn.sf:ssl_fc() == "1" and "https" or "http" },
    }
    if headers["host"] ~= nil then question["x-forwarded-host"] = { headers["host"][0] } end
    for _, name in ipairs(asked) do
        if headers[name] ~= nil then
            question[name] = {}
            for at = 0, #headers[name] do question[name][at + 1] = headers[name][at] end
        end
    end

    local answer = core.httpclient():get({ url = verify_url, headers = question, timeout = timeout_ms })
    if answer == nil or answer.headers == nil then return end
    if answer.status == 431 then
        local headers = { ["content-type"] = { "application/problem+json" }, ["cache-control"] = { "no-store" } }
        txn:done(txn:reply({ status = 431, headers = headers, body = '{"type":"https://tollkeeper.dev/problems/headers-too-large","title":"The headers are too large","status":431,"detail":"Target and headers are larger than 4 KiB."}' }))
    end
    -- HAProxy answers with a page of its own when nobody else does: only Tollkeeper sends a request id.
    if answer.headers["x-request-id"] == nil then return end
    for name, var in pairs(kept) do
        if answer.headers[name] ~= nil then txn:set_var(var, answer.headers[name][0]) end
    end
    if answer.status == 200 then
        txn:set_var("txn.tollkeeper_verdict", "passed")
        return
    end
    if answer.status < 400 then return end

    local reply = txn:reply({ status = answer.status, reason = answer.reason, body = answer.body })
    for name, values in pairs(answer.headers) do
        if not own[name] then
            for at = 0, #values do reply:add_header(name, values[at]) end
        end
    end
    txn:done(reply)
end)
