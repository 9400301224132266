// OAuth libraries of Node against a server: openid-client and oauth4webapi.
//
// Discovery, client credentials, token exchange, introspection, revocation, and what a client is told that is none.
//
// Needs the packages of package.json, and in the environment COUNTERSIGN_ENDPOINT, COUNTERSIGN_CLIENT_ID,
// COUNTERSIGN_SERVICE_TOKEN, COUNTERSIGN_OPERATOR_TOKEN and COUNTERSIGN_ORG_ID, as `countersign dev` writes them into
// dev.env.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { createRemoteJWKSet, exportJWK, generateKeyPair, jwtVerify } from 'jose'
import * as oauth from 'oauth4webapi'
import * as openid from 'openid-client'

const issuer = new URL(process.env.COUNTERSIGN_ENDPOINT)
const clientId = process.env.COUNTERSIGN_CLIENT_ID
const secret = process.env.COUNTERSIGN_SERVICE_TOKEN
const billing = 'https://billing.example'
const exchange = 'urn:ietf:params:oauth:grant-type:token-exchange'
const accessToken = 'urn:ietf:params:oauth:token-type:access_token'
const insecure = { [oauth.allowInsecureRequests]: true } // the server is on loopback

function done(what) {
  console.log(`ok: ${what}`)
}

async function verified(jwksUri, token) {
  const { payload } = await jwtVerify(token, createRemoteJWKSet(new URL(jwksUri)), {
    issuer: process.env.COUNTERSIGN_ENDPOINT,
    audience: billing,
    typ: 'at+jwt',
  })
  return payload
}

async function withOpenidClient(method, authentication) {
  const config = await openid.discovery(issuer, clientId, undefined, authentication, {
    algorithm: 'oauth2',
    execute: [openid.allowInsecureRequests],
  })
  const jwksUri = config.serverMetadata().jwks_uri
  const parameters = { scope: 'accounts.read', audience: billing }
  const token = await openid.clientCredentialsGrant(config, parameters)
  assert.equal(token.scope, 'accounts.read')
  assert.ok(token.expiresIn() <= 300)
  assert.equal((await verified(jwksUri, token.access_token)).client_id, clientId)
  done(`openid-client, ${method}: client credentials`)

  const exchanged = await openid.genericGrantRequest(config, exchange, {
    subject_token: secret,
    subject_token_type: accessToken,
    resource: billing,
  })
  assert.equal(exchanged.issued_token_type, accessToken)
  await verified(jwksUri, exchanged.access_token)
  done(`openid-client, ${method}: token exchange`)

  assert.equal((await openid.tokenIntrospection(config, token.access_token)).active, true)
  assert.deepEqual(await openid.tokenIntrospection(config, 'rubbish'), { active: false })
  await openid.tokenRevocation(config, 'rubbish')
  await assert.rejects(openid.tokenRevocation(config, token.access_token), { error: 'unsupported_token_type' })
  done(`openid-client, ${method}: introspection and revocation`)
}

async function withOauth4webapi() {
  const answer = await oauth.discoveryRequest(issuer, { algorithm: 'oauth2', ...insecure })
  const server = await oauth.processDiscoveryResponse(issuer, answer)
  const client = { client_id: clientId }
  const parameters = new URLSearchParams({ scope: 'accounts.read', audience: billing })
  const ask = (authentication) =>
    oauth.clientCredentialsGrantRequest(server, client, authentication, parameters, insecure)
  const token = await oauth.processClientCredentialsResponse(server, client, await ask(oauth.ClientSecretBasic(secret)))
  await verified(server.jwks_uri, token.access_token)
  done('oauth4webapi: client credentials')

  const asked = await oauth.introspectionRequest(
    server, client, oauth.ClientSecretPost(secret), token.access_token, insecure)
  assert.equal((await oauth.processIntrospectionResponse(server, client, asked)).active, true)
  const revoked = await oauth.revocationRequest(server, client, oauth.ClientSecretPost(secret), 'rubbish', insecure)
  await oauth.processRevocationResponse(revoked)
  done('oauth4webapi: introspection and revocation')

  const refused = await ask(oauth.ClientSecretBasic(`${secret}0`))
  await assert.rejects(oauth.processClientCredentialsResponse(server, client, refused), (error) => {
    const challenge = error.cause?.[0] ?? error.cause
    return error.status === 401 || challenge?.scheme === 'basic'
  })
  done('oauth4webapi: what a wrong secret is told')
}

async function call(method, message) {
  const answer = await fetch(new URL(`/countersign.v1.${method}`, issuer), {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${process.env.COUNTERSIGN_OPERATOR_TOKEN}` },
    body: JSON.stringify({ ...message, orgId: process.env.COUNTERSIGN_ORG_ID }),
  })
  assert.equal(answer.status, 200, await answer.clone().text())
  return answer.json()
}

// A token with a key: the library signs the assertion, whose audience has to be the issuer alone.
async function withKey() {
  const { publicKey, privateKey } = await generateKeyPair('ES256')
  const { account } = await call('AccountService/CreateServiceAccount', { name: `keys-${randomUUID().slice(0, 8)}` })
  const publicJwk = JSON.stringify(await exportJWK(publicKey))
  const created = await call('TokenService/CreateToken', { accountId: account.id, kind: 'TOKEN_KIND_KEY', publicJwk })
  const id = created.token.id
  const forIssuer = (_header, payload) => { payload.aud = process.env.COUNTERSIGN_ENDPOINT }
  const config = await openid.discovery(
    issuer, id, undefined, openid.PrivateKeyJwt(privateKey, { [openid.modifyAssertion]: forIssuer }),
    { algorithm: 'oauth2', execute: [openid.allowInsecureRequests] })
  const token = await openid.clientCredentialsGrant(config, { audience: billing })
  assert.equal((await verified(config.serverMetadata().jwks_uri, token.access_token)).client_id, id)
  done('openid-client, private_key_jwt: client credentials')

  const server = await oauth.processDiscoveryResponse(
    issuer, await oauth.discoveryRequest(issuer, { algorithm: 'oauth2', ...insecure }))
  const signed = oauth.PrivateKeyJwt(privateKey, { [oauth.modifyAssertion]: forIssuer })
  const parameters = new URLSearchParams({ audience: billing })
  const answer = await oauth.clientCredentialsGrantRequest(server, { client_id: id }, signed, parameters, insecure)
  await oauth.processClientCredentialsResponse(server, { client_id: id }, answer)
  done('oauth4webapi, private_key_jwt: client credentials')
}

await withOpenidClient('client_secret_basic', openid.ClientSecretBasic(secret))
await withOpenidClient('client_secret_post', openid.ClientSecretPost(secret))
await withOauth4webapi()
await withKey()
console.log('all good')
