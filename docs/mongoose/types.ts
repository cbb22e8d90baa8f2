// Made by scripts/mongoose_types.py from the models of training-snapshots, checked by tests.
// TrainingSnapshot is the stored document. Events are JSON: ids and times are text.
import type { Types } from "mongoose";

/** A captured message. It never changes after the capture. */
export interface TrainingMessage {
  /** the platform's id of the message, as text */
  id: string;
  /** the text; empty if the message has none */
  content: string;
  /** `user` is the platform's side */
  sender: string;
  senderType: string;
  timestamp: Date;
}

/** The addresses and numbers of erased contacts that were replaced after the capture. */
export interface ErasedMentions {
  /** when text was last replaced */
  at: Date;
  /** the number of replacements, by kind of personal data */
  counts: Record<string, unknown>;
}

/** A training snapshot; user and contact are ids. */
export interface TrainingSnapshot {
  _id: Types.ObjectId;
  organizationId: Types.ObjectId;
  customerName: string;
  customerPhone: string | null;
  customerEmail: string | null;
  messages: TrainingMessage[];
  messageCount: number;
  /** when the messages were captured */
  snapshotDate: Date;
  /** time of the first message */
  conversationStartDate: Date;
  /** time of the last message */
  conversationEndDate: Date;
  notes: string | null;
  tags: string[];
  quality: string | null;
  category: string | null;
  /** lists and exports omit archived snapshots by default */
  isArchived: boolean;
  /** the idempotency key of the request */
  requestId?: string | null;
  /** absent or null if messages of all conversations were requested */
  conversationId?: Types.ObjectId | null;
  /** how the request came in, such as `api` or `backfill` */
  trigger?: string | null;
  /** the snapshot of the previous closing of the conversation */
  supersedes?: Types.ObjectId | null;
  /** SHA-256, hex, of the messages as stored */
  contentHash?: string | null;
  /** deleted and internal messages that were omitted; absent if no setting names their flags */
  omittedMessageCount?: number | null;
  /** what was redacted; absent if the policy redacts nothing */
  redaction?: Redaction | null;
  /** what was redacted because another contact was erased; absent if nothing was */
  erasedMentions?: ErasedMentions | null;
  createdAt: Date;
  updatedAt: Date;
  __v: number;
  userId: Types.ObjectId | null;
  contactId: Types.ObjectId;
}

/** The data of a completed request. */
export interface CompletedData {
  organizationId: string;
  requestId: string;
  contactId: string | null;
  conversationId: string | null;
  trigger: string;
  messageCount: number;
  quality: string | null;
  category: string | null;
  tags: string[];
  unchanged?: boolean;
  snapshotId?: string | null;
  redaction?: Redaction | null;
}

/** The redactions in a snapshot. */
export interface Redaction {
  policy: number;
  counts: Record<string, unknown>;
}

/** The data of a failed request. */
export interface FailedData {
  organizationId: string;
  requestId: string;
  contactId: string | null;
  conversationId: string | null;
  trigger: string;
  error: Failure;
}

/** Why a request failed. */
export interface Failure {
  code: string;
  message: string;
  details: Record<string, unknown>;
}

/** Sent once the snapshot can be read. */
export interface CompletedEvent {
  specversion: "1.0";
  id: string;
  source: "/training/snapshots";
  subject: string;
  time: string;
  datacontenttype: "application/json";
  type: "training.snapshot.completed";
  data: CompletedData;
}

/** Sent once the failure is recorded. A redrive of the request sends an event of its own. */
export interface FailedEvent {
  specversion: "1.0";
  id: string;
  source: "/training/snapshots";
  subject: string;
  time: string;
  datacontenttype: "application/json";
  type: "training.snapshot.failed";
  data: FailedData;
}

/** The field `event` of an entry of the event stream, parsed. */
export type SnapshotEvent = CompletedEvent | FailedEvent;
