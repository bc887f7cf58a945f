-- name: touch_shelf
-- Comes first in every change of a VDN's flows or prompts: it holds the changes apart, so that the number
-- rises in the order of the commits.
INSERT INTO shelf (vdn_id, version) VALUES ($1, 1)
ON CONFLICT (vdn_id) DO UPDATE SET version = shelf.version + 1

-- name: shelf_versions
SELECT vdn_id, version FROM shelf WHERE vdn_id = ANY($1::integer[])

-- name: put_flow
INSERT INTO flow (vdn_id, name, document, sha256, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $5)
ON CONFLICT (vdn_id, name)
DO UPDATE SET document = EXCLUDED.document, sha256 = EXCLUDED.sha256, updated_at = EXCLUDED.updated_at
RETURNING xmax = 0 AS created

-- name: unlink_prompts
DELETE FROM flow_prompt WHERE vdn_id = $1 AND flow = $2

-- name: link_prompts
INSERT INTO flow_prompt (vdn_id, flow, prompt) SELECT $1, $2, unnest($3::text[])

-- name: flow
SELECT name, document, sha256, created_at, updated_at,
       ARRAY(SELECT prompt FROM flow_prompt p WHERE p.vdn_id = $1 AND p.flow = f.name ORDER BY prompt) AS prompts
FROM flow f WHERE vdn_id = $1 AND name = $2

-- name: all_flows
SELECT name, document, sha256, created_at, updated_at,
       ARRAY(SELECT prompt FROM flow_prompt p WHERE p.vdn_id = $1 AND p.flow = f.name ORDER BY prompt) AS prompts
FROM flow f WHERE vdn_id = $1 ORDER BY name

-- name: campaigns_of_flow
-- $2 the device signs that name the flow  $3 now
SELECT campaign_id FROM campaign
WHERE vdn_id = $1 AND device_sign = ANY($2::text[]) AND device_type IN (1, 3) AND state = 'started'
  AND end_at > $3 AND deleted_at IS NULL
ORDER BY campaign_id LIMIT 10

-- name: remove_flow
DELETE FROM flow WHERE vdn_id = $1 AND name = $2 RETURNING name

-- name: put_prompt
INSERT INTO prompt (vdn_id, name, audio, duration_ms, sha256, created_at) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (vdn_id, name)
DO UPDATE SET audio = EXCLUDED.audio, duration_ms = EXCLUDED.duration_ms, sha256 = EXCLUDED.sha256,
              created_at = EXCLUDED.created_at
RETURNING xmax = 0 AS created

-- name: all_prompts
SELECT name, duration_ms, sha256, created_at FROM prompt WHERE vdn_id = $1 ORDER BY name

-- name: prompt_audio
SELECT audio FROM prompt WHERE vdn_id = $1 AND name = $2 AND sha256 = $3

-- name: flows_of_prompt
SELECT flow FROM flow_prompt WHERE vdn_id = $1 AND prompt = $2 ORDER BY flow LIMIT 10

-- name: remove_prompt
DELETE FROM prompt WHERE vdn_id = $1 AND name = $2 RETURNING name
