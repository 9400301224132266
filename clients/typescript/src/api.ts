/** The messages and services of `countersign.v1`. */
export * from "./gen/countersign/v1/account_service_pb.js";
export * from "./gen/countersign/v1/accounts_pb.js";
export * from "./gen/countersign/v1/error_reason_pb.js";
export * from "./gen/countersign/v1/events_pb.js";
export * from "./gen/countersign/v1/org_service_pb.js";
export * from "./gen/countersign/v1/orgs_pb.js";
export * from "./gen/countersign/v1/signing_keys_pb.js";
export * from "./gen/countersign/v1/streams_pb.js";
export * from "./gen/countersign/v1/token_service_pb.js";
export * from "./gen/countersign/v1/tokens_pb.js";
