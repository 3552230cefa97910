//! What keeps mail from having a place.

use queue::source::{SourceId, Stop, What};

use super::used::setup;
use super::*;

#[tokio::test(start_paused = true)]
async fn sources_that_are_stopped_are_to_blame_where_no_other_goes() {
    let (hops, a) = (hops(), hop("a"));
    let stop = |source| Stop { what: What::Source(SourceId::read(source)), drains: true, since: Timestamp(0) };
    for (stops, blamed) in [(vec![], 0), (vec![stop(1)], 0), (vec![stop(1), stop(2)], 2), (vec![stop(3)], 0)] {
        let setup = queue::source::Setup { stops, ..setup(&[1, 2]) };
        hops.set_up(&setup, &[]);
        let kept = hops.kept(&a.by(SourceId::read(2)), Stream::Mail, base::OrganisationId::HOUSE);
        assert_eq!(kept.stops.len(), blamed, "{:?}", kept.stops);
    }
}
