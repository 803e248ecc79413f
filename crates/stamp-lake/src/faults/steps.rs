//! Blocking work that takes turns with the runtime, so that a seed decides every order.
//!
//! A job runs on a thread of its own, but only while the runtime's thread waits for it. At each
//! request the job hands back to the runtime, which decides, in its own time, when the request is
//! made. Nothing here runs in production.

use std::cell::RefCell;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::{Fault, Moment, Request, RequestKind, Schedule};

/// A request of a job that waits for its decision.
struct Question {
    kind: RequestKind,
    path: String,
    moment: Moment,
}

/// A job's end of the line.
struct Link {
    questions: SyncSender<Question>,
    answers: Receiver<Fault>,
}

thread_local! {
    static LINK: RefCell<Option<Link>> = const { RefCell::new(None) };
}

/// Asks on behalf of the job that runs on this thread; `None` outside of jobs.
///
/// A job that nobody drives any more, because its runtime is gone, gets nothing done.
pub(super) fn ask(request: &Request<'_>, moment: Moment) -> Option<Fault> {
    LINK.with_borrow(|link| {
        let link = link.as_ref()?;
        let question = Question {
            kind: request.kind,
            path: request.path.to_owned(),
            moment,
        };
        let asked = link.questions.send(question).is_ok();
        let answer = asked.then(|| link.answers.recv().ok()).flatten();
        Some(answer.unwrap_or(Fault::Refuse))
    })
}

/// Runs `work` step by step. As with blocking tasks, dropping the handle stops nothing.
pub(crate) fn spawn<T: Send + 'static>(
    runtime: &Handle,
    schedule: Arc<dyn Schedule>,
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    runtime.spawn(drive(schedule, work))
}

async fn drive<T: Send + 'static>(
    schedule: Arc<dyn Schedule>,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (questions, asked) = sync_channel(1);
    let (answer, answers) = sync_channel(1);
    let job = thread::spawn(move || {
        LINK.set(Some(Link { questions, answers }));
        let result = work();
        LINK.set(None);
        result
    });
    // Waiting here blocks the runtime on purpose: one of the two runs at a time.
    while let Ok(question) = asked.recv() {
        let request = Request {
            kind: question.kind,
            path: &question.path,
        };
        let fault = schedule.decide(&request, question.moment).await;
        // A job that panicked meanwhile is told apart below.
        let _ = answer.send(fault);
    }
    job.join().unwrap_or_else(|panic| resume_unwind(panic))
}
