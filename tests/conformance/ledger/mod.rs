//! Cases of the ledger seam.

pub(crate) mod cancels;
pub(crate) mod claims;
pub(crate) mod dead;
pub(crate) mod decisions;
pub(crate) mod effects;
pub(crate) mod endings;
pub(crate) mod fired;
pub(crate) mod grants;
pub(crate) mod joins;
pub(crate) mod lifetimes;
pub(crate) mod pauses;
pub(crate) mod sessions;
pub(crate) mod sweep;

/// All cases of this seam.
macro_rules! cases {
    ($($of:tt)+) => {
        pub(crate) mod ledger {
            crate::harness::cases!($($of)+, ledger::sessions:
                a_session_is_read_as_it_was_recorded
                a_session_attaches_again_only_with_a_higher_number
                an_unknown_session_attaches_only_with_number_one
                of_attaches_with_the_same_number_one_wins
                sessions_are_listed_page_by_page_in_order
                renewing_raises_the_number_of_that_session_alone
                renewing_an_unknown_session_answers_false
                attaching_again_counts_as_renewal
                a_session_that_was_renewed_is_not_closed
                a_session_that_stood_still_is_closed
                a_session_is_closed_whatever_its_number_if_none_is_given
                closing_answers_the_leases_oldest_first_until_they_are_ended
                closing_an_unknown_session_answers_no_leases
                a_closed_session_gets_no_lease_and_does_not_come_back
                leases_of_a_closed_session_live_until_they_are_ended
                leases_without_a_session_are_orphans
                either_the_renewal_or_the_closing_wins
                sessions_survive_a_restart
                a_session_may_stand_still_anew_after_a_restart
                a_notice_reaches_every_listener
            );
            crate::harness::cases!($($of)+, ledger::grants:
                a_lease_is_read_as_it_was_granted
                a_message_with_a_live_lease_is_held
                a_message_with_a_decision_is_decided
                without_a_session_nothing_is_granted
                under_an_outdated_attach_nothing_is_granted
                what_is_held_or_decided_is_so_for_anybody
                of_grants_of_one_message_at_the_same_time_one_runs
                tokens_grow_with_every_grant
                tokens_are_no_less_than_the_wall_clock
                tokens_grow_though_the_wall_clock_is_stepped_back
                tokens_grow_over_a_restart
                attempts_count_earlier_messages_and_lost_workers
                lookup_tells_how_a_lease_stands
                standing_tells_how_a_message_stands
                leases_are_listed_oldest_first_and_filtered
                leases_survive_a_restart
            );
            crate::harness::cases!($($of)+, ledger::endings:
                a_free_ending_costs_no_attempt_and_is_counted
                a_lost_worker_costs_an_attempt_and_is_remembered
                the_same_ending_again_is_a_duplicate
                another_ending_is_a_conflict
                only_the_last_lease_of_a_message_is_ended
                what_is_decided_cannot_be_released
                endings_survive_a_restart
            );
            crate::harness::cases!($($of)+, ledger::decisions:
                the_first_decision_is_recorded_and_ends_the_lease
                the_same_report_is_a_duplicate
                the_same_outcome_under_another_report_is_a_duplicate
                another_outcome_is_a_conflict
                a_late_report_is_recorded_if_nothing_was_granted_since
                a_late_report_is_superseded_by_a_later_grant
                an_older_lease_of_a_decided_message_is_superseded
                what_was_never_granted_is_superseded
                within_a_batch_the_first_decision_counts
                of_decisions_at_the_same_time_one_is_recorded
                decisions_survive_a_restart
            );
            crate::harness::cases!($($of)+, ledger::effects:
                undone_effects_are_listed_oldest_first_as_they_were_recorded
                only_decisions_from_before_are_undone
                done_effects_are_listed_no_more
                what_is_refused_has_no_effects
                undone_effects_survive_a_restart
                a_dead_task_is_set_aside_with_its_decision
                dead_tasks_are_listed_page_by_page_in_order_of_their_keys
                a_body_that_is_no_task_is_set_aside_without_a_decision
            );
            crate::harness::cases!($($of)+, ledger::dead:
                a_dead_task_is_found_by_its_message
                a_requeue_goes_on_under_the_generation_it_was_begun_with
                what_is_not_dead_is_neither_requeued_nor_forgotten
                a_forgotten_dead_task_is_gone_and_the_others_stay
                a_requeue_that_was_begun_survives_a_restart
                dead_tasks_are_forgotten_by_their_age_in_bounded_steps
                a_task_set_aside_anew_is_as_old_as_the_last_time
                the_age_of_a_dead_task_survives_a_restart
            );
            crate::harness::cases!($($of)+, ledger::cancels:
                a_marked_task_is_granted_only_to_be_ended
                a_mark_needs_no_session
                a_later_sending_is_not_cancelled_an_earlier_one_is
                an_older_mark_does_not_replace_a_newer_one
                a_mark_leaves_a_live_lease_alone
                marks_are_listed_page_by_page_in_order_of_their_tasks
                marks_survive_a_restart
            );
            crate::harness::cases!($($of)+, ledger::lifetimes:
                a_lifetime_is_over_from_its_moment_on
                lifetimes_are_listed_page_by_page_in_order_of_their_moments
                a_forgotten_lifetime_is_gone_and_the_others_stay
                a_lifetime_goes_with_the_decision_that_ends_its_task
                lifetimes_survive_a_restart
            );
            crate::harness::cases!($($of)+, ledger::joins:
                a_join_is_read_as_it_was_opened
                a_join_opened_again_is_known_and_stays_as_it_is
                a_join_is_sending_until_it_is_said_to_be_sent
                a_member_is_added_once_and_its_first_outcome_stays
                what_is_no_member_is_passed_over
                without_known_members_each_counts_in_the_order_of_their_ends
                members_are_read_page_by_page
                members_that_have_not_ended_are_found_page_by_page
                adding_at_the_same_time_counts_each_member_once
                a_join_of_ten_thousand_members_is_one_as_any
                joins_survive_a_restart
            );
            crate::harness::cases!($($of)+, ledger::fired:
                joins_are_due_when_they_are_to_be_looked_at
                a_full_join_is_due_at_once
                a_full_join_stays_due_until_it_is_looked_at_as_it_is
                what_follows_is_recorded_once
                of_two_that_fire_at_the_same_time_one_records
                a_fired_join_takes_no_more_members
                a_closed_join_is_over
                a_closed_join_is_remembered_for_its_time
                an_open_join_is_never_forgotten_by_the_sweep
                what_was_not_sent_is_forgotten_and_may_be_opened_anew
                a_large_join_that_was_closed_is_forgotten_in_the_end
                what_follows_survives_a_restart
            );
            crate::harness::cases!($($of)+, ledger::claims:
                a_send_is_claimed_then_published
                a_request_id_names_one_content
                within_a_batch_the_first_claim_counts
                of_claims_at_the_same_time_one_is_new
                a_key_is_held_until_it_is_judged_free
                a_key_for_a_time_is_in_force_without_a_look
                a_request_that_met_a_key_in_force_stays_with_its_task
                only_an_own_claim_that_nobody_found_is_taken_back
                a_claim_lapses_and_is_forgotten
                a_claim_that_lapsed_is_none_though_nobody_swept
                many_claims_are_forgotten_in_bounded_steps
                claims_survive_a_restart
            );
            crate::harness::cases!($($of)+, ledger::pauses:
                a_paused_queue_keeps_its_moment_until_it_is_resumed
                pauses_survive_a_restart
                live_leases_are_counted_by_queue
                nobodys_grant_needs_neither_session_nor_mark
            );
            crate::harness::cases!($($of)+, ledger::sweep:
                an_undone_decision_is_never_forgotten
                a_decision_is_kept_from_when_it_is_done
                marking_again_does_not_prolong
                marking_what_is_not_decided_changes_nothing
                a_live_lease_is_never_forgotten
                a_released_message_is_remembered_for_seven_days
                a_touched_message_is_remembered_anew
                what_is_forgotten_begins_anew_with_a_higher_token
                everything_past_its_time_is_forgotten_in_bounded_steps
                what_was_to_be_forgotten_is_forgotten_after_a_restart
            );
        }
    };
}
pub(crate) use cases;
