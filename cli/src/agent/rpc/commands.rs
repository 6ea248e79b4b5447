//! The commands of RPC clients. Replies and their bodies are in PROTOCOL 6.2 and 6.4.

use std::time::Duration;

use thane_engine::api::{ApiError, Listing};
use thane_engine::command::{CommandError, KeyOperation, QueryParams};
use thane_engine::event::Members;
use thane_engine::ipc::{
    Coordinate, CoordinateResponse, JoinResponse, KeyResponse, MembersRequest, MembersResponse,
    MonitorRequest, QueryRequest, Request, RespondRequest, Stats, StreamRequest, write_member, write_members,
};

use super::members::MemberFilter;
use super::session::{Ending, Session, evaluation};
use super::streams::{EventStream, run_monitor, run_query};
use crate::agent::filter::EventFilter;
use crate::agent::level::Level;

/// Simultaneous event streams of one connection.
const STREAMS_MAX: usize = 64;
/// Simultaneous queries of one connection. Each holds the answers that the client has not read yet: at most two per
/// member.
const QUERIES_MAX: usize = 64;

impl Session {
    /// Executes one request and replies.
    pub(super) async fn execute(&mut self, request: Request) -> Result<(), Ending> {
        let backend = self.backend.clone();
        match request {
            Request::Handshake(body) => {
                let outcome = self.handshake(body.version);
                self.reply(outcome).await
            }
            Request::Auth(body) => {
                let outcome = self.authenticate(&body.auth_key).await;
                self.reply(outcome).await
            }
            Request::Event(body) => {
                self.reply(backend.user_event(&body.name, body.payload.into(), body.coalesce).await).await
            }
            Request::ForceLeave(body) => self.reply(backend.force_leave(&body.node, body.prune).await).await,
            Request::Join(body) => {
                let joined = backend.join(&body.existing, body.replay).await;
                let num = *joined.as_ref().unwrap_or(&0);
                let response = JoinResponse { num: i32::try_from(num).unwrap_or(i32::MAX) };
                self.reply_with(joined.map(drop), &response).await
            }
            Request::Members => self.members(&MembersRequest::default()).await,
            Request::MembersFiltered(body) => self.members(&body).await,
            Request::Stream(body) => self.stream(body).await,
            Request::Monitor(body) => self.monitor(body).await,
            Request::Stop(body) => self.stop(body.stop).await,
            Request::Leave => self.leave().await,
            Request::Tags(body) => self.reply(backend.set_tags(body.tags, &body.delete_tags).await).await,
            Request::Query(body) => self.query(body).await,
            Request::Respond(body) => self.respond(body).await,
            Request::Stats => {
                let (outcome, stats) = match backend.numbers().await {
                    Ok(numbers) => (Ok(()), numbers.to_stats()),
                    Err(error) => (Err(error), Stats::default()),
                };
                self.reply_with(outcome, &stats).await
            }
            Request::InstallKey(body) => self.keys(KeyOperation::Install, &body.key).await,
            Request::UseKey(body) => self.keys(KeyOperation::Use, &body.key).await,
            Request::RemoveKey(body) => self.keys(KeyOperation::Remove, &body.key).await,
            Request::ListKeys => self.keys(KeyOperation::List, "").await,
            Request::GetCoordinate(body) => self.coordinate(&body.node).await,
        }
    }

    /// Sends the list while it reads it. A slow client delays no other client, and costs little more than its
    /// outbox.
    async fn members(&mut self, request: &MembersRequest) -> Result<(), Ending> {
        let filter = MemberFilter::new(request).map_err(evaluation)?;
        let (mut listing, mut next) = match self.listing(&filter).await {
            Ok(begun) => begun,
            Err(error) => return self.reply_with(Err(error), &MembersResponse::default()).await,
        };
        let mut reply = self.outbox.long(self.seq()).await?;
        reply.part(|bytes| write_members(bytes, listing.len())).await?;
        while let Some(piece) = next {
            reply.part(|bytes| piece.iter().for_each(|member| write_member(bytes, &member))).await?;
            next = listing.next().await.map_err(evaluation)?;
        }
        Ok(())
    }

    /// The matching members, and the first piece of the list.
    async fn listing(&self, filter: &MemberFilter) -> Result<(Listing, Option<Members>), ApiError> {
        let mut listing = self.backend.handle.list().await?;
        if !filter.is_empty() {
            listing.retain(|member| filter.matches(member)).await?;
        }
        let first = listing.next().await?;
        Ok((listing, first))
    }

    /// The body holds the answers of the members, after an error too.
    async fn keys(&self, operation: KeyOperation, key: &str) -> Result<(), Ending> {
        let key = match crate::base64::decode(key) {
            Ok(key) => key,
            Err(error) => {
                return self.reply_with(Err(error), &KeyResponse::default()).await;
            }
        };
        let report = match self.backend.keys(operation, key).await {
            Ok(report) => report,
            Err(error) => return self.reply_with(Err(error), &KeyResponse::default()).await,
        };
        let outcome = report.error().map_or(Ok(()), Err);
        let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
        let keys = report.keys.into_iter().map(|(key, n)| (key, count(n))).collect();
        let response = KeyResponse {
            messages: report.messages,
            keys: (operation == KeyOperation::List).then_some(keys),
            num_nodes: count(report.nodes),
            num_err: count(report.errors),
            num_resp: count(report.responses),
        };
        self.reply_with(outcome, &response).await
    }

    /// An unknown coordinate is not an error.
    async fn coordinate(&self, node: &str) -> Result<(), Ending> {
        let (outcome, found) = match self.backend.handle.coordinate(node).await {
            Ok(found) => (Ok(()), found),
            Err(error) => (Err(error), None),
        };
        let ok = found.is_some();
        let coord = found.map(|found| Coordinate {
            vec: found.vec.to_vec(),
            error: found.error,
            adjustment: found.adjustment,
            height: found.height,
        });
        self.reply_with(outcome, &CoordinateResponse { coord: coord.unwrap_or_default(), ok }).await
    }

    async fn stream(&mut self, request: StreamRequest) -> Result<(), Ending> {
        let seq = self.seq();
        let Ok(filters) = EventFilter::parse_list(&request.filter) else {
            return self.reply(Err("Invalid event filter")).await;
        };
        if self.streams.contains_key(&seq) {
            return self.reply(Err("Stream with given sequence exists")).await;
        }
        if self.streams.len() == STREAMS_MAX {
            return self
                .reply(Err(format!(
                    "this connection has {STREAMS_MAX} event streams, the limit: stop one first"
                )))
                .await;
        }
        let stream = EventStream {
            seq,
            filters,
            events: self.backend.events.subscribe(),
            outbox: self.outbox.clone(),
            asked: self.asked.clone(),
            log: self.backend.log.clone(),
            client: self.client.clone(),
        };
        self.reply(Ok::<(), &str>(())).await?;
        self.streams.insert(seq, self.tasks.spawn_local(stream.run()));
        Ok(())
    }

    async fn monitor(&mut self, request: MonitorRequest) -> Result<(), Ending> {
        let Some(level) = Level::parse(&request.log_level) else {
            let level = request.log_level.to_uppercase();
            return self.reply(Err(format!("Unknown log level: {level}"))).await;
        };
        if self.monitor.is_some() {
            return self.reply(Err("Monitor already exists")).await;
        }
        let lines = self.backend.log.subscribe(self.client.as_str(), level);
        self.reply(Ok::<(), &str>(())).await?;
        let seq = self.seq();
        self.monitor = Some((seq, self.tasks.spawn_local(run_monitor(seq, lines, self.outbox.clone()))));
        Ok(())
    }

    /// Ends the stream and the monitor with that `Seq`, if there are any. Queries continue.
    async fn stop(&mut self, seq: u64) -> Result<(), Ending> {
        if let Some(stream) = self.streams.remove(&seq) {
            stream.abort();
        }
        if let Some((_, monitor)) = self.monitor.take_if(|(of, _)| *of == seq) {
            monitor.abort();
        }
        while self.tasks.try_join_next().is_some() {}
        self.reply(Ok::<(), &str>(())).await
    }

    async fn query(&mut self, request: QueryRequest) -> Result<(), Ending> {
        while self.queries.try_join_next().is_some() {}
        if self.queries.len() == QUERIES_MAX {
            return self
                .reply(Err(format!(
                    "this connection has {QUERIES_MAX} running queries, the limit: wait until one has ended"
                )))
                .await;
        }
        let timeout = match request.timeout_ns {
            0 => None,
            nanoseconds => Some(Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0))),
        };
        let params = QueryParams {
            name: request.name,
            payload: request.payload.into(),
            filter_nodes: request.filter_nodes,
            filter_tags: request.filter_tags,
            request_ack: request.request_ack,
            relay_factor: request.relay_factor,
            timeout,
        };
        match self.backend.query(params).await {
            Ok(answers) => {
                self.reply(Ok::<(), &str>(())).await?;
                self.queries.spawn_local(run_query(self.seq(), answers, self.outbox.clone()));
                Ok(())
            }
            Err(error) => self.reply(Err(error)).await,
        }
    }

    async fn respond(&mut self, request: RespondRequest) -> Result<(), Ending> {
        let unknown = CommandError::UnknownQuery.to_string();
        let Some(token) = self.asked.borrow_mut().find(&request) else {
            return self.reply(Err(unknown)).await;
        };
        let outcome = self.backend.handle.respond(token, request.payload.into()).await;
        let outcome = outcome.map_err(|error| match error {
            ApiError::Command(CommandError::UnknownQuery | CommandError::PastDeadline) => unknown,
            error => format!("failed to respond to key query: {error}"),
        });
        self.reply(outcome).await
    }

    async fn leave(&mut self) -> Result<(), Ending> {
        self.backend.log.add(Level::Info, "agent.ipc", "Graceful leave triggered");
        let left = self.backend.leave().await;
        if let Err(error) = &left {
            self.backend.log.add(Level::Err, "agent.ipc", format_args!("leave failed: {error}"));
        }
        // The first request ends the agent when its leave has finished.
        let under_way = left == Err(ApiError::Command(CommandError::LeaveInProgress));
        // The leave counts even if the client does not wait for the reply.
        let replied = self.reply(left).await;
        if under_way { replied } else { Err(Ending::Left) }
    }
}
